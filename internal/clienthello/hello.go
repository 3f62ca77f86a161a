// Package clienthello reads what a TLS client says first, with its own parser: what compares a browser and us must not share
// code with what writes one of them. Only tests and the lab import it.
package clienthello

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The extensions that are more than bytes to a comparison.
const (
	ServerName          = 0
	SupportedGroups     = 10
	SignatureAlgorithms = 13
	ALPN                = 16
	PreSharedKey        = 41
	CompressCertificate = 27
	SupportedVersions   = 43
	KeyShares           = 51
	ALPS                = 17613
	ECH                 = 65037
)

// NameOf is what IANA's list (TLS ExtensionType Values), or the draft, calls an extension; "unknown" where neither does.
func NameOf(number uint16) string {
	name, ok := map[uint16]string{
		0: "server_name", 5: "status_request", 10: "supported_groups", 11: "ec_point_formats", 13: "signature_algorithms",
		16: "application_layer_protocol_negotiation", 18: "signed_certificate_timestamp", 23: "extended_master_secret",
		27: "compress_certificate", 35: "session_ticket", 41: "pre_shared_key", 43: "supported_versions", 45: "psk_key_exchange_modes",
		28: "record_size_limit", 34: "delegated_credentials", 51: "key_share", 17613: "application_settings", 51764: "trust_anchors", 65037: "encrypted_client_hello",
		65281: "renegotiation_info",
	}[number]
	if !ok {
		return "unknown"
	}
	return name
}

// GREASE stands for any of the sixteen values that RFC 8701 reserves.
const GREASE = 0x0a0a

// IsGREASE reports whether v is one of those.
func IsGREASE(v uint16) bool { return v&0x0f0f == GREASE && v>>8 == v&0xff }

// Plain returns GREASE for each of its values, and others as they are.
func Plain(v uint16) uint16 {
	if IsGREASE(v) {
		return GREASE
	}
	return v
}

// A Hello is a ClientHello (RFC 8446, section 4.1.2) and the record that it came in.
type Hello struct {
	RecordVersion uint16
	Length        int // of the record, without its header
	Version       uint16
	Random        []byte
	SessionID     []byte
	Ciphers       []uint16
	Compression   []byte
	Extensions    []Extension // as sent
}

// An Extension is one extension's number and content.
type Extension struct {
	Type uint16
	Body []byte
}

// A KeyShare is one of the key_share extension's.
type KeyShare struct {
	Group uint16
	Data  []byte
}

// ECHOuter is what an encrypted_client_hello extension of an outer hello has (RFC 9849, section 5).
type ECHOuter struct {
	KDF, AEAD    uint16
	ConfigID     byte
	Enc, Payload []byte
}

// Offered is what a pre_shared_key extension of a hello has (RFC 8446, section 4.2.11).
type Offered struct {
	Identities [][]byte // tickets
	Ages       []uint32 // obfuscated
	Binders    [][]byte
}

var errHello = errors.New("not one whole ClientHello in one record")

// ParseHello reads a TLS record that has a ClientHello and nothing else.
func ParseHello(record []byte) (*Hello, error) {
	r := reader{b: record}
	if r.u8() != 22 {
		return nil, errHello
	}
	h := &Hello{RecordVersion: r.u16()}
	body := r.sub(2)
	h.Length = len(body.b)
	if body.u8() != 1 {
		return nil, errHello
	}
	msg := body.sub(3)
	h.Version = msg.u16()
	h.Random = msg.bytes(32)
	h.SessionID = msg.sub(1).b
	h.Ciphers = msg.sub(2).list()
	h.Compression = msg.sub(1).b
	exts := msg.sub(2)
	for exts.more() {
		h.Extensions = append(h.Extensions, Extension{exts.u16(), exts.sub(2).b})
	}
	if !r.done() || !body.done() || !msg.done() || !exts.done() {
		return nil, errHello
	}
	return h, nil
}

// Extension returns an extension's content.
func (h *Hello) Extension(number uint16) (body []byte, ok bool) {
	for _, e := range h.Extensions {
		if e.Type == number {
			return e.Body, true
		}
	}
	return nil, false
}

// Order lists the extensions' numbers as sent, with GREASE for its values.
func (h *Hello) Order() []uint16 {
	var order []uint16
	for _, e := range h.Extensions {
		order = append(order, Plain(e.Type))
	}
	return order
}

// List returns the values of an extension that is one list of 16-bit values.
func (h *Hello) List(number uint16) []uint16 {
	body, _ := h.Extension(number)
	r := reader{b: body}
	if number == SupportedVersions || number == CompressCertificate {
		return r.sub(1).list()
	}
	return r.sub(2).list()
}

// Protocols returns the values of an extension that is one list of protocol names.
func (h *Hello) Protocols(number uint16) []string {
	body, _ := h.Extension(number)
	r := reader{b: body}
	list := r.sub(2)
	var all []string
	for list.more() {
		all = append(all, string(list.sub(1).b))
	}
	return all
}

// KeyShares returns the key shares in order.
func (h *Hello) KeyShares() []KeyShare {
	body, _ := h.Extension(KeyShares)
	r := reader{b: body}
	shares := r.sub(2)
	var all []KeyShare
	for shares.more() {
		all = append(all, KeyShare{shares.u16(), shares.sub(2).b})
	}
	return all
}

// ECH returns the encrypted_client_hello extension, or nil.
func (h *Hello) ECH() *ECHOuter {
	body, ok := h.Extension(ECH)
	r := reader{b: body}
	if !ok || r.u8() != 0 {
		return nil
	}
	e := &ECHOuter{KDF: r.u16(), AEAD: r.u16(), ConfigID: r.u8(), Enc: r.sub(2).b, Payload: r.sub(2).b}
	if !r.done() {
		return nil
	}
	return e
}

// PSK returns the pre_shared_key extension, or nil.
func (h *Hello) PSK() *Offered {
	body, ok := h.Extension(PreSharedKey)
	r := reader{b: body}
	o := &Offered{}
	identities, binders := r.sub(2), r.sub(2)
	for identities.more() {
		o.Identities = append(o.Identities, identities.sub(2).b)
		o.Ages = append(o.Ages, uint32(identities.u16())<<16|uint32(identities.u16()))
	}
	for binders.more() {
		o.Binders = append(o.Binders, binders.sub(1).b)
	}
	if !ok || !r.done() || !identities.done() || !binders.done() || len(o.Identities) == 0 {
		return nil
	}
	return o
}

// last is the place of the extension that is last but for pre_shared_key, which must be behind all others.
func (h *Hello) last() int {
	n := len(h.Extensions) - 1
	if n > 0 && h.Extensions[n].Type == PreSharedKey {
		n--
	}
	return n
}

// Greased returns the GREASE value at each place that has one; "key share" is that of a key share's group.
func (h *Hello) Greased() map[string]uint16 {
	found := map[string]uint16{}
	first := func(place string, values []uint16) {
		for _, v := range values {
			if IsGREASE(v) {
				found[place] = v
			}
		}
	}
	first("cipher", h.Ciphers)
	first("group", h.List(SupportedGroups))
	first("version", h.List(SupportedVersions))
	first("signature algorithm", h.List(SignatureAlgorithms))
	for _, s := range h.KeyShares() {
		first("key share", []uint16{s.Group})
	}
	if n := len(h.Extensions); n > 0 {
		first("first extension", []uint16{h.Extensions[0].Type})
		first("last extension", []uint16{h.Extensions[h.last()].Type})
	}
	return found
}

// A Field is one thing that can be said of a hello, in words that two hellos of one browser share: what is random, and
// the order of extensions, which is random too, are left out.
type Field struct{ Name, Value string }

// Fields describes everything in the hello but the order of its extensions, what is random, and the AEAD and the size of the
// payload of encrypted_client_hello.
func (h *Hello) Fields() []Field {
	fields := []Field{
		{"record version", fmt.Sprintf("%04x", h.RecordVersion)},
		{"version", fmt.Sprintf("%04x", h.Version)},
		{"session id", fmt.Sprintf("%d bytes", len(h.SessionID))},
		{"cipher suites", Codes(h.Ciphers)},
		{"compression methods", hex.EncodeToString(h.Compression)},
		{"JA4", h.JA4()},
	}
	exts := slices.Clone(h.Extensions)
	slices.SortStableFunc(exts, func(a, b Extension) int { return int(Plain(a.Type)) - int(Plain(b.Type)) })
	var numbers []uint16
	for _, e := range exts {
		numbers = append(numbers, e.Type)
	}
	fields = append(fields, Field{"set of extensions", Codes(numbers)})
	if h.last() > 0 {
		for i, name := range map[int]string{0: "first extension", h.last(): "last extension"} {
			e := h.Extensions[i]
			value := Codes([]uint16{e.Type})
			if IsGREASE(e.Type) { // others are described below
				value += fmt.Sprintf(" [%x]", e.Body)
			}
			fields = append(fields, Field{name, value})
		}
	}
	for _, e := range exts {
		value := hex.EncodeToString(e.Body)
		switch {
		case IsGREASE(e.Type):
			continue
		case e.Type == SupportedGroups || e.Type == SignatureAlgorithms || e.Type == SupportedVersions:
			value = Codes(h.List(e.Type))
		case e.Type == KeyShares:
			var shares []string
			for _, s := range h.KeyShares() {
				shares = append(shares, fmt.Sprintf("%s:%d", Codes([]uint16{s.Group}), len(s.Data)))
			}
			value = strings.Join(shares, " ")
		case e.Type == ECH && h.ECH() != nil:
			ech := h.ECH()
			value = fmt.Sprintf("outer, KDF %04x, enc %d bytes", ech.KDF, len(ech.Enc))
		case e.Type == PreSharedKey && h.PSK() != nil:
			psk := h.PSK()
			var sizes []int
			for _, b := range slices.Concat(psk.Identities, psk.Binders) {
				sizes = append(sizes, len(b))
			}
			value = fmt.Sprintf("%d identities, %d binders, of %d bytes, behind all others: %v", len(psk.Identities),
				len(psk.Binders), sizes, h.Extensions[len(h.Extensions)-1].Type == PreSharedKey)
		}
		fields = append(fields, Field{fmt.Sprintf("extension %d (%04x)", e.Type, e.Type), value})
	}
	g := h.Greased()
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return append(fields,
		Field{"key share's GREASE is the group's", fmt.Sprint(g["key share"] == g["group"])},
		Field{"extensions' GREASE differ", fmt.Sprint(g["first extension"] != g["last extension"])},
		Field{"the hybrid share repeats the X25519 share", fmt.Sprint(h.repeatsX25519())})
}

// repeatsX25519 reports whether one X25519 key serves both shares, as Go's own crypto/tls does it.
func (h *Hello) repeatsX25519() bool {
	const x25519, x25519MLKEM768 = 0x001d, 0x11ec
	var alone, hybrid []byte
	for _, s := range h.KeyShares() {
		switch s.Group {
		case x25519:
			alone = s.Data
		case x25519MLKEM768:
			hybrid = s.Data
		}
	}
	return len(alone) == 32 && strings.HasSuffix(string(hybrid), string(alone))
}

// Codes writes values as a profile does: four hexadecimal digits each, or "grease".
func Codes(values []uint16) string {
	var all []string
	for _, v := range values {
		if IsGREASE(v) {
			all = append(all, "grease")
			continue
		}
		all = append(all, fmt.Sprintf("%04x", v))
	}
	return strings.Join(all, " ")
}

// A reader takes bytes from the front. Once something is missing it has failed, and gives zeros.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) bytes(n int) []byte {
	if r.failed || n > len(r.b) {
		r.failed, r.b = true, nil
		return make([]byte, min(n, 4))
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte    { return r.bytes(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.bytes(2)) }

// sub returns what follows a length of so many bytes.
func (r *reader) sub(lengthBytes int) *reader {
	n := 0
	for _, b := range r.bytes(lengthBytes) {
		n = n<<8 | int(b)
	}
	s := &reader{}
	s.b = r.bytes(n)
	s.failed = r.failed
	return s
}

func (r *reader) more() bool { return !r.failed && len(r.b) > 0 }
func (r *reader) done() bool { return !r.failed && len(r.b) == 0 }

func (r *reader) list() []uint16 {
	var all []uint16
	for r.more() {
		all = append(all, r.u16())
	}
	return all
}
