package accesskey

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxStarts bounds how many "godwit://" of one message are looked at.
const maxStarts = 8

// Parse finds the access key in text, which may be the key alone or a message that holds one; of several it takes the
// first that is whole. The key it returns is valid, with defaults filled in. Its errors are *ParseError.
func Parse(text string) (Key, error) {
	if len(text) > maxInput {
		return Key{}, notKey(fmt.Sprintf("%d bytes, more than %d", len(text), maxInput))
	}
	s := visible(text)
	starts := findStarts(s, maxStarts)
	if len(starts) == 0 {
		return Key{}, withoutStart(s)
	}
	var first error
	for i, at := range starts {
		end := len(s)
		if i+1 < len(starts) {
			end = starts[i+1].begin
		}
		k, err := parseAfterScheme(s[at.end:end])
		if err == nil {
			return k, nil
		}
		if first == nil {
			first = err
		}
	}
	return Key{}, first
}

// parseAfterScheme parses what follows "godwit://", to the end of the message.
func parseAfterScheme(s string) (Key, error) {
	body, label := splitLabel(s)
	variants := undash(squeeze(body))
	var whole []envelope
	for _, v := range variants {
		if e := cutEnvelope(v); e.hasC && len(e.sum) == sumLen && lower(e.sum) == e.want() {
			whole = append(whole, e)
		}
	}
	switch len(whole) {
	case 0:
		return Key{}, diagnose(cutEnvelope(variants[0]), body)
	case 1:
	default:
		return Key{}, mangled("", "dashes were replaced in a way that cannot be undone")
	}
	// A "#" further on belongs to the message.
	if e := whole[0]; e.after != "" || strings.TrimRight(body, " \n") != body {
		label = ""
	}
	return open(whole[0], label)
}

// cutEnvelope takes a squeezed body apart without judging it.
func cutEnvelope(body string) envelope {
	var e envelope
	var rest string
	e.payload, rest, e.hasAt = strings.Cut(body, "@")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		e.authority, rest = rest[:i], strings.TrimPrefix(strings.TrimPrefix(rest[i:], "/"), "?")
	} else {
		e.authority, rest = rest, ""
	}
	if !e.hasAt {
		// So that diagnose can see which parameters are there.
		if i := strings.IndexByte(body, '?'); i >= 0 {
			e.payload, rest = body[:i], body[i+1:]
		}
	}
	e.query, rest, e.hasC = strings.Cut(rest, "&c=")
	n := 0
	for n < len(rest) && n < sumLen && isBase32(rest[n]) {
		n++
	}
	e.sum, e.after = rest[:n], rest[n:]
	return e
}

func isBase32(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '2' <= c && c <= '7'
}

// open reads the parts of an envelope whose sum is right: what is wrong now was wrong when the key was made.
func open(e envelope, label string) (Key, error) {
	// The version first: nothing else is known of a newer format.
	if v, ok := version(e.payload); ok && v > Format1 {
		return Key{}, &ParseError{
			Kind: ErrTooNew, Part: "version",
			Reason: fmt.Sprintf("the key is of format %d, this Godwit knows format %d", v, Format1),
		}
	}
	var p [1 + len(ID{}) + SecretSize]byte
	if err := decodeExact(p[:], e.payload); err != "" {
		return Key{}, invalid("payload", err)
	}
	if p[0] != Format1 {
		return Key{}, invalid("version", fmt.Sprintf("there is no format %d", p[0]))
	}
	for _, c := range []byte(e.authority + e.query) {
		if !isAlnum(c) && !strings.ContainsRune("-._~:/?=@+,[]&", rune(c)) {
			return Key{}, invalid("", "it holds a character that keys are not made of")
		}
	}

	if hasStart(e.authority + e.query) {
		return Key{}, invalid("", "it holds the beginning of another key")
	}

	k := Key{Version: p[0], Label: readLabel(label)}
	copy(k.ID[:], p[1:])
	k.Secret = NewSecret([SecretSize]byte(p[1+len(k.ID):]))
	first, err := parseHostPort(e.authority)
	if err != nil {
		return Key{}, invalid("host", err.Error())
	}
	k.Endpoints = []Endpoint{first}

	var seen []string
	for _, param := range strings.Split(e.query, "&") {
		if param == "" {
			continue
		}
		name, value, _ := strings.Cut(param, "=")
		switch name {
		case "pin", "next", "dir", "sni", "alt", "at", "c":
			if name == "c" || slices.Contains(seen, name) {
				return Key{}, invalid(name, "given twice")
			}
			seen = append(seen, name)
		}
		if err := k.setParam(name, value, param); err != nil {
			return Key{}, err
		}
	}
	for _, name := range []string{"pin", "dir"} {
		if !slices.Contains(seen, name) {
			return Key{}, invalid(name, "missing")
		}
	}
	n, err := k.normal()
	if err != nil {
		return Key{}, err
	}
	if l := len(n.text()); l > MaxText {
		return Key{}, invalid("", fmt.Sprintf("%d bytes, more than %d", l, MaxText))
	}
	return n, nil
}

// setParam reads one parameter into k.
func (k *Key) setParam(name, value, whole string) error {
	reason := ""
	switch name {
	case "pin":
		reason = decodeExact(k.Pin[:], value)
	case "next":
		reason = decodeExact(k.NextPin[:], value)
	case "dir":
		k.DirectoryKey = make([]byte, 32)
		reason = decodeExact(k.DirectoryKey, value)
	case "sni":
		k.Endpoints[0].Name = value
		if value == "" {
			reason = "empty"
		}
	case "alt":
		// One more than is allowed is enough for normal to refuse.
		for i, place := range strings.SplitN(value, ",", MaxEndpoints+1) {
			e, err := parsePlace(place)
			if err != nil {
				return invalid(name, fmt.Sprintf("endpoint %d: %v", i+2, err))
			}
			k.Endpoints = append(k.Endpoints, e)
		}
	case "at":
		k.Directory = strings.SplitN(value, ",", MaxLocations+1)
	default:
		k.unknown = append(k.unknown, whole)
	}
	if reason != "" {
		return invalid(name, reason)
	}
	return nil
}

// ParseEndpoint reads one place of alt, as a person would write it into settings.
func ParseEndpoint(s string) (Endpoint, error) {
	e, err := parsePlace(s)
	if err != nil {
		return Endpoint{}, err
	}
	return e.normal()
}

// parsePlace reads [<transport>+]<host>[:<port>][/<name>][+<secret>+<pin>].
func parsePlace(s string) (Endpoint, error) {
	part := strings.Split(s, "+")
	if len(part) != 4 {
		return parseOpenPlace(s)
	}
	e, err := parseOpenPlace(part[0] + "+" + part[1])
	if err != nil {
		return e, err
	}
	var secret [SecretSize]byte
	e.Relay = new(Relay)
	if reason := decodeExact(secret[:], part[2]); reason != "" {
		return Endpoint{}, errors.New("the relay's secret: " + reason)
	}
	if reason := decodeExact(e.Relay.Pin[:], part[3]); reason != "" {
		return Endpoint{}, errors.New("the relay's pin: " + reason)
	}
	e.Relay.Secret = NewSecret(secret)
	return e, nil
}

// parseOpenPlace reads the part of a place that is no secret.
func parseOpenPlace(s string) (Endpoint, error) {
	transport, rest, ok := strings.Cut(s, "+")
	if !ok {
		transport, rest = defaultTransport, s
	} else if !isTransport(transport) {
		return Endpoint{}, fmt.Errorf("transport %.20q is not a word of lower-case letters and digits", transport)
	}
	hostPort, name, ok := strings.Cut(rest, "/")
	if ok && name == "" {
		return Endpoint{}, fmt.Errorf("place %.80q has an empty server name", s)
	}
	e, err := parseHostPort(hostPort)
	e.Transport, e.Name = transport, name
	return e, err
}

// parseHostPort reads <host>[:<port>].
func parseHostPort(s string) (Endpoint, error) {
	host, port, hasPort := s, "", false
	if inner, ok := strings.CutPrefix(s, "["); ok {
		var after string
		if host, after, ok = strings.Cut(inner, "]"); !ok || !strings.Contains(host, ":") {
			return Endpoint{}, fmt.Errorf("%.80q is not an IPv6 address in brackets", s)
		}
		if port, hasPort = strings.CutPrefix(after, ":"); after != "" && !hasPort {
			return Endpoint{}, fmt.Errorf("%.80q has something after its bracket", s)
		}
	} else {
		host, port, hasPort = strings.Cut(s, ":")
	}
	e := Endpoint{Transport: defaultTransport, Host: host, Port: defaultPort}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Endpoint{}, fmt.Errorf("port %.20q is not a number from 1 to 65535", port)
		}
		e.Port = uint16(n)
	}
	return e, nil
}

// version is the first byte of a payload.
func version(payload string) (byte, bool) {
	if len(payload) < 4 {
		return 0, false
	}
	b, err := b64.DecodeString(payload[:4])
	if err != nil {
		return 0, false
	}
	return b[0], true
}

// decodeExact decodes s into all of dst, or says what is wrong with it without showing it.
func decodeExact(dst []byte, s string) string {
	if want := b64.EncodedLen(len(dst)); len(s) != want {
		return fmt.Sprintf("%d characters instead of %d", len(s), want)
	}
	if _, err := b64.Decode(dst, []byte(s)); err != nil {
		return "not base64url"
	}
	return ""
}
