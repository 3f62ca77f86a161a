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
	ApplicationSettings []string  `json:"application_settings"`
	ECHGREASE           ECHGREASE `json:"ech_grease"`
	// Extensions are all that are sent, in any order: the browser shuffles what is between the first, GREASE without
	// content, and the last, GREASE with one zero byte, and neither of these is in the list.
	Extensions []Extension `json:"extensions"`
}

// ECHGREASE is the encrypted_client_hello extension of a client that knows no key (RFC 9849, section 6.2).
type ECHGREASE struct {
	KDF  uint16 `json:"kdf"`
	AEAD uint16 `json:"aead"`
	// Payloads are the sizes of the payload, each as likely as another.
	Payloads []int `json:"payloads"`
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
	Priority     Priority  `json:"priority"`
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
	for name, list := range map[string][]string{"alpn": t.ALPN, "application_settings": t.ApplicationSettings} {
		if len(list) == 0 || len(list) > 10 {
			return fmt.Errorf("tls.%s: wants 1 to 10 protocols, has %d", name, len(list))
		}
		for _, protocol := range list {
			if len(protocol) == 0 || len(protocol) > 255 {
				return fmt.Errorf("tls.%s: a protocol has 1 to 255 bytes", name)
			}
		}
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
	}
	return nil
}

func (e *ECHGREASE) check() error {
	if e.KDF != 1 || e.AEAD < 1 || e.AEAD > 3 {
		return errors.New("tls.ech_grease: wants kdf 1 (HKDF-SHA256) and aead 1, 2 or 3 (RFC 9180, section 7)")
	}
	if len(e.Payloads) == 0 || len(e.Payloads) > 100 {
		return fmt.Errorf("tls.ech_grease.payloads: wants 1 to 100 sizes, has %d", len(e.Payloads))
	}
	for _, size := range e.Payloads {
		if size <= aeadTag || size > 1024 {
			return fmt.Errorf("tls.ech_grease.payloads: wants %d to 1024, has %d", aeadTag+1, size)
		}
	}
	return nil
}

// pseudoHeaders are what a request must have (RFC 9113, section 8.3.1).
var pseudoHeaders = []string{":method", ":authority", ":scheme", ":path"}

func (h *HTTP2) check() error {
	if len(h.Settings) == 0 || len(h.Settings) > 20 {
		return fmt.Errorf("http2.settings: wants 1 to 20, has %d", len(h.Settings))
	}
	if h.WindowUpdate == 0 || h.WindowUpdate > 1<<31-1-65535 {
		return fmt.Errorf("http2.window_update: %d is not possible", h.WindowUpdate)
	}
	if h.Priority.Weight < 1 || h.Priority.Weight > 256 || h.Priority.DependsOn > 1<<31-1 || h.Priority.DependsOn == 1 {
		return errors.New("http2.priority: wants a weight of 1 to 256 and a dependency on another stream than 1")
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
		if total += len(line); total > 1<<13 {
			return errors.New("http2.headers: longer than 8 KiB together")
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
