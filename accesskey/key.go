package accesskey

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Format1 is the version byte of the only format there is.
const Format1 = 1

// Limits of a key. They bound what a person is made to scan and what a parser is made to hold.
const (
	MaxText      = 4096 // bytes of the text form, label included: the largest QR code holds 2953
	MaxEndpoints = 16
	MaxLocations = 8
	MaxLabel     = 64       // runes
	maxHost      = 253      // bytes of a DNS name in presentation form (RFC 1035 §2.3.4)
	maxTransport = 16       // bytes of a transport's name
	maxInput     = 64 << 10 // bytes of the message a key is looked for in
)

const (
	defaultTransport = "https"
	defaultPort      = 443
)

// Key is an access key. Parse fills in the defaults; a key made by hand may leave them out.
type Key struct {
	// Version is the format; zero means Format1.
	Version byte
	// ID names the key.
	ID ID
	// Secret opens the door.
	Secret Secret
	// Pin is the SHA-256 of the gateway's TLS SubjectPublicKeyInfo.
	Pin [32]byte
	// NextPin is the hash of the key the gateway will use next; zero means not known yet.
	NextPin [32]byte
	// Endpoints are where the gateway can be reached, best first: at least one, and the first by https.
	Endpoints []Endpoint
	// DirectoryKey verifies the directory of gateways.
	DirectoryKey ed25519.PublicKey
	// Directory lists https URLs where the directory may be found. May be empty.
	Directory []string
	// Label is what the person calls this key. May be empty.
	Label string

	// unknown are parameters of a newer Godwit, printed again so that storing a key loses nothing.
	unknown []string
}

// Endpoint is one place a gateway can be reached at.
type Endpoint struct {
	// Transport is a transport's name; empty means https. Unknown ones are for newer clients: pass over them.
	Transport string
	// Host is a DNS name in ASCII or an IP address without brackets.
	Host string
	// Port zero means 443.
	Port uint16
	// Name is the server name to send; empty means Host if that is a DNS name, and otherwise none.
	Name string
	// Relay is how a relay is entered, which has a door and a TLS key of its own; nil for every other transport.
	Relay *Relay
}

// Relay is a relay's door, for this access key, and the SHA-256 of its TLS SubjectPublicKeyInfo.
type Relay struct {
	Secret Secret
	Pin    [32]byte
}

// relayTransport is the transport whose endpoints have a Relay.
const relayTransport = "relay"

// Addr is host:port, with brackets around an IPv6 address.
func (e Endpoint) Addr() string {
	port := e.Port
	if port == 0 {
		port = defaultPort
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(port)))
}

// Pins lists the hashes of the TLS keys the gateway may show: the current one and, if known, the next.
func (k Key) Pins() [][32]byte {
	if k.NextPin == ([32]byte{}) {
		return [][32]byte{k.Pin}
	}
	return [][32]byte{k.Pin, k.NextPin}
}

// String is the key with everything hidden but its id and its first endpoint: for its holder's eyes, not for logs.
func (k Key) String() string {
	s := "access key " + k.ID.String()
	if len(k.Endpoints) > 0 {
		s += " at " + k.Endpoints[0].Addr()
	}
	return s
}

// Format makes every verb print String.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue is the id alone: logs are what people post when they ask for help, and a posted address gets blocked.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID.String()) }

// MarshalText fails, so that a key is never written as part of something else without anybody meaning to. Whoever wants
// to store a key stores Text.
func (k Key) MarshalText() ([]byte, error) { return nil, errNoMarshal }

// UnmarshalText is Parse: reading a key from settings is no danger.
func (k *Key) UnmarshalText(text []byte) error {
	v, err := Parse(string(text))
	if err != nil {
		return err
	}
	*k = v
	return nil
}

// Validate says why a key cannot be printed. Its errors match ErrInvalid and name the field by its part of the text.
func (k Key) Validate() error {
	n, err := k.normal()
	if err != nil {
		return err
	}
	if l := len(n.text()); l > MaxText {
		return invalid("", fmt.Sprintf("%d bytes, more than %d", l, MaxText))
	}
	return nil
}

// normal is k with defaults filled in and names and addresses in their one form. It shares no slices with k.
func (k Key) normal() (Key, error) {
	if k.Version == 0 {
		k.Version = Format1
	}
	zero := [32]byte{}
	switch {
	case k.Version != Format1:
		return Key{}, invalid("version", fmt.Sprintf("format %d is not known", k.Version))
	case k.ID == ID{}:
		return Key{}, invalid("payload", "the id is missing")
	case k.Secret.IsZero():
		return Key{}, invalid("payload", "the door secret is missing")
	case k.Pin == zero:
		return Key{}, invalid("pin", "missing")
	case len(k.DirectoryKey) != ed25519.PublicKeySize:
		return Key{}, invalid("dir", fmt.Sprintf("%d bytes instead of %d", len(k.DirectoryKey), ed25519.PublicKeySize))
	case [32]byte(k.DirectoryKey) == zero:
		return Key{}, invalid("dir", "missing")
	case len(k.Endpoints) == 0:
		return Key{}, invalid("host", "missing")
	case len(k.Endpoints) > MaxEndpoints:
		return Key{}, invalid("alt", fmt.Sprintf("%d endpoints, more than %d", len(k.Endpoints), MaxEndpoints))
	case len(k.Directory) > MaxLocations:
		return Key{}, invalid("at", fmt.Sprintf("%d locations, more than %d", len(k.Directory), MaxLocations))
	case utf8.RuneCountInString(k.Label) > MaxLabel:
		return Key{}, invalid("label", fmt.Sprintf("longer than %d characters", MaxLabel))
	case k.Label != cleanLabel(k.Label):
		return Key{}, invalid("label", "it has blanks around it, characters that do not show, or another key in it")
	}
	k.DirectoryKey = slices.Clone(k.DirectoryKey)
	k.Directory = slices.Clone(k.Directory)
	k.Endpoints = slices.Clone(k.Endpoints)
	for i, e := range k.Endpoints {
		part := "alt"
		if i == 0 {
			part = "host"
			if e.Transport != "" && e.Transport != defaultTransport {
				return Key{}, invalid(part, fmt.Sprintf("the first endpoint is by %.20q instead of https", e.Transport))
			}
		}
		n, err := e.normal()
		if err != nil {
			return Key{}, invalid(part, fmt.Sprintf("endpoint %d: %v", i+1, err))
		}
		k.Endpoints[i] = n
	}
	for i, l := range k.Directory {
		if err := checkLocation(l); err != nil {
			return Key{}, invalid("at", fmt.Sprintf("location %d: %v", i+1, err))
		}
	}
	return k, nil
}

func (e Endpoint) normal() (Endpoint, error) {
	if e.Transport == "" {
		e.Transport = defaultTransport
	}
	if !isTransport(e.Transport) {
		return Endpoint{}, fmt.Errorf("transport %.20q is not a word of lower-case letters and digits", e.Transport)
	}
	if e.Port == 0 {
		e.Port = defaultPort
	}
	switch {
	case e.Transport != relayTransport && e.Relay != nil:
		return Endpoint{}, fmt.Errorf("%s has a relay's secret and pin", e.Transport)
	case e.Transport == relayTransport && (e.Relay == nil || e.Relay.Secret.IsZero() || e.Relay.Pin == [32]byte{}):
		return Endpoint{}, errors.New("the relay's secret or pin is missing")
	}
	host, isAddr, err := normalHost(e.Host)
	if err != nil {
		return Endpoint{}, err
	}
	e.Host = host
	switch {
	case e.Name != "":
		name, isAddr, err := normalHost(e.Name)
		if err != nil || isAddr {
			return Endpoint{}, fmt.Errorf("server name %.80q is not a DNS name", e.Name)
		}
		e.Name = name
	case !isAddr:
		e.Name = host
	}
	return e, nil
}

func isTransport(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('a' <= c && c <= 'z' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxTransport
}

// normalHost returns the one form of a DNS name or an IP address, and which of them it is.
func normalHost(h string) (host string, isAddr bool, err error) {
	if a, err := netip.ParseAddr(h); err == nil {
		if a.Zone() != "" {
			return "", false, fmt.Errorf("address %.80q has a zone, which means nothing elsewhere", h)
		}
		return a.Unmap().String(), true, nil
	}
	h = lower(h)
	labels := strings.Split(h, ".")
	// A last label of digits alone is an address somebody mistyped: resolvers disagree on what to make of it.
	bad := len(h) > maxHost || strings.Trim(labels[len(labels)-1], "0123456789") == ""
	for _, l := range labels {
		bad = bad || l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != ""
	}
	if bad {
		return "", false, fmt.Errorf("host %.80q is neither a DNS name in ASCII nor an address", h)
	}
	return h, false, nil
}

func checkLocation(l string) error {
	for i := 0; i < len(l); i++ {
		if !isAlnum(l[i]) && !strings.ContainsRune("-._~:/?=@[]", rune(l[i])) {
			return fmt.Errorf("%.80q holds %q, which a key cannot carry", l, l[i])
		}
	}
	if hasStart(l) {
		return fmt.Errorf("%.80q holds the beginning of another key", l)
	}
	u, err := url.Parse(l)
	if err != nil || !strings.HasPrefix(l, "https://") || u.User != nil {
		return fmt.Errorf("%.80q is not an https URL", l)
	}
	if _, _, err := normalHost(u.Hostname()); err != nil {
		return fmt.Errorf("%.80q is not an https URL of a host", l)
	}
	return nil
}

// cleanLabel makes s fit to be shown: valid UTF-8 without control characters, line breaks and marks that turn the
// direction of what follows. The joiners that Persian, Indic scripts and emoji need stay. A label that begins another
// key is none.
func cleanLabel(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\u200c' || r == '\u200d':
			return r
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if hasStart(s) {
		return ""
	}
	return strings.TrimSpace(s)
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// lower is strings.ToLower for ASCII alone: no other letter may turn into one of ours.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
