package chrome

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	utls "github.com/refraction-networking/utls"
)

// A Profile is what one version of the browser sends first: data, so that a new version is a new file and no code. Every
// field is needed; unknown ones are refused.
type Profile struct {
	// Family is what browser this is a version of: one replaces another of its own family alone.
	Family Family `json:"family"`
	// Browser and Measured say which program sent this, and on which day ("2006-01-02").
	Browser  string `json:"browser"`
	Measured string `json:"measured"`
	TLS      TLS    `json:"tls"`
	HTTP2    HTTP2  `json:"http2"`
}

// TLS is the ClientHello.
type TLS struct {
	Ciphers             Codes `json:"ciphers"`
	Groups              Codes `json:"groups"`
	KeyShares           Codes `json:"key_shares"`
	Versions            Codes `json:"versions"`
	SignatureAlgorithms Codes `json:"signature_algorithms"`
	// CertificateCompression are the algorithms of RFC 8879.
	CertificateCompression Codes    `json:"certificate_compression"`
	ALPN                   []string `json:"alpn"`
	// ApplicationSettings are the protocols of ALPS (draft-vvv-tls-alps).
	ApplicationSettings []string  `json:"application_settings,omitempty"`
	ECHGREASE           ECHGREASE `json:"ech_grease"`
	// OneX25519 has one X25519 key in both shares that have one.
	OneX25519 bool `json:"one_x25519,omitempty"`
	// Shuffled says that the order of the extensions is drawn for each connection; otherwise it is the list's.
	Shuffled bool `json:"shuffled,omitempty"`
	// GREASEEnds puts one extension of GREASE before all others, without content, and one behind them, with a zero byte.
	GREASEEnds bool `json:"grease_ends,omitempty"`
	// Extensions are all that are sent but for those two, and for pre_shared_key, which is behind everything where a session
	// is resumed.
	Extensions []Extension `json:"extensions"`
	// NotReturning are those that are not sent then.
	NotReturning Codes `json:"not_returning,omitempty"`
}

// ECHGREASE is the encrypted_client_hello extension of a client that knows no key (RFC 9849, section 6.2).
type ECHGREASE struct {
	KDF   uint16   `json:"kdf"`
	AEADs []uint16 `json:"aeads"` // each as likely as another
	// Payloads are the sizes of the payload, each as likely as another; ReturnPayloads those where a session is resumed,
	// if they are others. They are right for tickets as long as a gateway's.
	Payloads       []int `json:"payloads"`
	ReturnPayloads []int `json:"return_payloads,omitempty"`
}

// An Extension is one extension. Those that the fields above describe, and those without variable content, have no body;
// of all others the body is sent as it is here.
type Extension struct {
	Type Code   `json:"type"`
	Name string `json:"name"` // for people
	Body Hex    `json:"body,omitempty"`
}

// HTTP2 is what follows the handshake.
type HTTP2 struct {
	Settings     []Setting `json:"settings"`
	WindowUpdate uint32    `json:"window_update"`
	// Stream is the number of the first request's stream, StreamWindow the WINDOW_UPDATE that follows its HEADERS in the same
	// record; zero is none.
	Stream       uint32   `json:"stream"`
	StreamWindow uint32   `json:"stream_window,omitempty"`
	Priority     Priority `json:"priority"`
	// HPACK names the encoder.
	HPACK HPACK `json:"hpack"`
	// Headers are the fields of a navigation's HEADERS in order, "name: value". The authority and the cookie, which has
	// no field when it is empty, take their values from the request.
	Headers []string `json:"headers"`
}

// A Setting is one of SETTINGS'.
type Setting struct {
	ID    uint16 `json:"id"`
	Value uint32 `json:"value"`
}

// Priority is the HEADERS frame's, with the weight that people count: 1 to 256.
type Priority struct {
	DependsOn uint32 `json:"depends_on"`
	Exclusive bool   `json:"exclusive"`
	Weight    int    `json:"weight"`
}

// A Code is a 16-bit number of TLS's, written as four hexadecimal digits.
type Code uint16

// Codes is a list of them, separated by spaces, in which "grease" is any value that RFC 8701 reserves.
type Codes []uint16

// grease stands for a GREASE value until there is a connection to draw one for.
const grease = utls.GREASE_PLACEHOLDER

// Hex is bytes, written as hexadecimal digits.
type Hex []byte

// MarshalText implements encoding.TextMarshaler.
func (c Code) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04x", uint16(c)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Code) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 16)
	if err != nil || len(text) != 4 {
		return fmt.Errorf("%q is not four hexadecimal digits", text)
	}
	*c = Code(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (c Codes) MarshalText() ([]byte, error) {
	var words []string
	for _, v := range c {
		if v == grease {
			words = append(words, "grease")
			continue
		}
		words = append(words, fmt.Sprintf("%04x", v))
	}
	return []byte(strings.Join(words, " ")), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Codes) UnmarshalText(text []byte) error {
	*c = nil
	for word := range strings.FieldsSeq(string(text)) {
		if word == "grease" {
			*c = append(*c, grease)
			continue
		}
		var one Code
		if err := one.UnmarshalText([]byte(word)); err != nil {
			return err
		}
		*c = append(*c, uint16(one))
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// maxProfile bounds a profile's file: today's is a tenth of it.
const maxProfile = 64 << 10

// ParseProfile reads a profile and refuses one from which no hello could be built.
func ParseProfile(text []byte) (*Profile, error) {
	if len(text) > maxProfile {
		return nil, fmt.Errorf("profile: longer than %d bytes", maxProfile)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	p := &Profile{}
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("profile: something follows it")
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return p, nil
}

func (p *Profile) check() error {
	if p.Family != FamilyChrome && p.Family != FamilyFirefox {
		return fmt.Errorf("family: wants %q or %q", FamilyChrome, FamilyFirefox)
	}
	if p.Browser == "" {
		return errors.New("browser: missing")
	}
	if _, err := time.Parse(time.DateOnly, p.Measured); err != nil {
		return errors.New("measured: not a day, as in 2006-01-02")
	}
	return errors.Join(p.TLS.check(), p.HTTP2.check())
}

func (t *TLS) check() error {
	for _, list := range []struct {
		name  string
		codes Codes
	}{
		{"ciphers", t.Ciphers}, {"groups", t.Groups}, {"key_shares", t.KeyShares}, {"versions", t.Versions},
		{"signature_algorithms", t.SignatureAlgorithms}, {"certificate_compression", t.CertificateCompression},
	} {
		if len(list.codes) == 0 || len(list.codes) > 100 {
			return fmt.Errorf("tls.%s: wants 1 to 100 values, has %d", list.name, len(list.codes))
		}
		for i, v := range list.codes {
			if slices.Contains(list.codes[:i], v) {
				return fmt.Errorf("tls.%s: %04x is there twice", list.name, v)
			}
		}
	}
	for _, g := range t.KeyShares {
		if !slices.Contains(t.Groups, g) {
			return fmt.Errorf("tls.key_shares: %04x is not among groups", g)
		}
		switch utls.CurveID(g) {
		case grease, utls.X25519MLKEM768, utls.X25519, utls.CurveP256, utls.CurveP384, utls.CurveP521:
		default:
			return fmt.Errorf("tls.key_shares: the engine has no keys for %04x", g)
		}
	}
	if !slices.Contains(t.KeyShares, uint16(utls.X25519MLKEM768)) {
		return errors.New("tls.key_shares: no X25519MLKEM768 (11ec)")
	}
	if !slices.Contains(t.Versions, utls.VersionTLS13) {
		return errors.New("tls.versions: no TLS 1.3 (0304)")
	}
	for _, v := range t.Versions {
		if v != grease && (v < utls.VersionTLS10 || v > utls.VersionTLS13) {
			return fmt.Errorf("tls.versions: the engine does not know %04x", v)
		}
	}
	lists := map[string][]string{"alpn": t.ALPN}
	if slices.ContainsFunc(t.Extensions, func(e Extension) bool { return e.Type == extApplicationSettings }) {
		lists["application_settings"] = t.ApplicationSettings
	} else if len(t.ApplicationSettings) > 0 {
		return errors.New("tls.application_settings: there is no extension for them")
	}
	for name, list := range lists {
		if len(list) == 0 || len(list) > 10 {
			return fmt.Errorf("tls.%s: wants 1 to 10 protocols, has %d", name, len(list))
		}
		for _, protocol := range list {
			if len(protocol) == 0 || len(protocol) > 255 {
				return fmt.Errorf("tls.%s: a protocol has 1 to 255 bytes", name)
			}
		}
	}
	if t.OneX25519 && !slices.Contains(t.KeyShares, uint16(utls.X25519)) {
		return errors.New("tls.one_x25519: key_shares has no X25519 (001d)")
	}
	if err := t.ECHGREASE.check(); err != nil {
		return err
	}
	total := 0
	var seen []Code
	for _, e := range t.Extensions {
		if slices.Contains(seen, e.Type) {
			return fmt.Errorf("tls.extensions: %04x is there twice", uint16(e.Type))
		}
		seen = append(seen, e.Type)
		if total += len(e.Body); total > 1<<13 {
			return errors.New("tls.extensions: the bodies are longer than 8 KiB together")
		}
		if _, err := t.extension(e); err != nil {
			return err
		}
	}
	for _, needed := range []Code{extServerName, extSupportedGroups, extSignatureAlgorithms, extALPN,
		extSupportedVersions, extKeyShare} {
		if !slices.Contains(seen, needed) {
			return fmt.Errorf("tls.extensions: %04x is missing, without which there is no TLS 1.3 or no HTTP/2",
				uint16(needed))
		}
		if slices.Contains(t.NotReturning, uint16(needed)) {
			return fmt.Errorf("tls.not_returning: %04x is needed", uint16(needed))
		}
	}
	for i, v := range t.NotReturning {
		if !slices.Contains(seen, Code(v)) || slices.Contains(t.NotReturning[:i], v) {
			return fmt.Errorf("tls.not_returning: %04x is not among extensions, or there twice", v)
		}
	}
	return nil
}

func (e *ECHGREASE) check() error {
	if e.KDF != 1 || len(e.AEADs) == 0 || len(e.AEADs) > 3 || slices.Min(e.AEADs) < 1 || slices.Max(e.AEADs) > 3 {
		return errors.New("tls.ech_grease: wants kdf 1 (HKDF-SHA256) and aeads of 1, 2 and 3 (RFC 9180, section 7)")
	}
	if len(e.Payloads) == 0 || len(e.Payloads) > 100 || len(e.ReturnPayloads) > 100 {
		return fmt.Errorf("tls.ech_grease.payloads: wants 1 to 100 sizes, has %d", len(e.Payloads))
	}
	for _, size := range slices.Concat(e.Payloads, e.ReturnPayloads) {
		if size <= aeadTag || size > 1024 {
			return fmt.Errorf("tls.ech_grease.payloads: wants %d to 1024, has %d", aeadTag+1, size)
		}
	}
	return nil
}

// maxHeaders bounds the fields of a request: a gateway looks for a knock only in what is not longer than a browser's, which
// has 900 bytes of them, and then a cookie.
const maxHeaders = 1500

// pseudoHeaders are what a request must have (RFC 9113, section 8.3.1).
var pseudoHeaders = []string{":method", ":authority", ":scheme", ":path"}

func (h *HTTP2) check() error {
	if len(h.Settings) == 0 || len(h.Settings) > 20 {
		return fmt.Errorf("http2.settings: wants 1 to 20, has %d", len(h.Settings))
	}
	if h.WindowUpdate == 0 || h.WindowUpdate > 1<<31-1-65535 {
		return fmt.Errorf("http2.window_update: %d is not possible", h.WindowUpdate)
	}
	if h.Stream != 1 && h.Stream != 3 {
		return fmt.Errorf("http2.stream: wants 1 or 3, has %d", h.Stream) // what gateways look at
	}
	if h.StreamWindow > 1<<31-1 {
		return fmt.Errorf("http2.stream_window: %d is not possible", h.StreamWindow)
	}
	if h.HPACK != HPACKShortest && h.HPACK != HPACKFirefox {
		return fmt.Errorf("http2.hpack: wants %q or %q", HPACKShortest, HPACKFirefox)
	}
	if h.Priority.Weight < 1 || h.Priority.Weight > 256 || h.Priority.DependsOn > 1<<31-1 || h.Priority.DependsOn == h.Stream {
		return errors.New("http2.priority: wants a weight of 1 to 256 and a dependency on another stream")
	}
	total, regular := 0, false
	var seen []string
	for _, line := range h.Headers {
		name, value, ok := field(line)
		if !ok || strings.ToLower(name) != name || strings.ContainsAny(name, " \r\n\x00") ||
			strings.ContainsAny(value, "\r\n\x00") {
			return fmt.Errorf("http2.headers: %q is not \"name: value\" in lower case", line)
		}
		if slices.Contains(seen, name) {
			return fmt.Errorf("http2.headers: %q is there twice", name)
		}
		seen = append(seen, name)
		switch pseudo := strings.HasPrefix(name, ":"); {
		case pseudo && (regular || !slices.Contains(pseudoHeaders, name)):
			return fmt.Errorf("http2.headers: %q has no place there", name)
		case !pseudo:
			regular = true
		}
		if (name == ":authority" || name == "cookie") != (value == "") {
			return fmt.Errorf("http2.headers: :authority and cookie have no value here, all others have one: %q", line)
		}
		if total += len(line); total > maxHeaders {
			return fmt.Errorf("http2.headers: longer than %d bytes together", maxHeaders)
		}
	}
	for _, name := range append(slices.Clone(pseudoHeaders), "cookie") {
		if !slices.Contains(seen, name) {
			return fmt.Errorf("http2.headers: %q is missing", name)
		}
	}
	return nil
}

// field splits a line of Headers.
func field(line string) (name, value string, ok bool) {
	after, pseudo := strings.CutPrefix(line, ":")
	name, value, ok = strings.Cut(after, ":")
	if pseudo {
		name = ":" + name
	}
	return name, strings.TrimPrefix(value, " "), ok && name != "" && name != ":"
}

// measured is the day of the measurement.
func (p *Profile) measured() time.Time {
	t, _ := time.Parse(time.DateOnly, p.Measured) // check has done so
	return t
}
