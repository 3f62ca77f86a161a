package dns

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// key is what the holders of a network's access keys know of a zone and strangers do not. It is no secret that anything
// but cost and looks depends on.
type key struct {
	mac  [sha256.Size]byte
	mask cipher.Block
}

func newKey(holders transport.Shader, zone string) *key {
	shade := holders.Shade([]byte("godwit dns v1\x00" + strings.ToLower(zone)))
	derive := func(label string) [sha256.Size]byte {
		h := hmac.New(sha256.New, shade[:])
		h.Write([]byte(label))
		return [sha256.Size]byte(h.Sum(nil))
	}
	mask := derive("mask")
	block, err := aes.NewCipher(mask[:16])
	if err != nil {
		panic(err) // 16 bytes are a key
	}
	return &key{derive("mac"), block}
}

const tagLen = 4

var errSeal = errors.New("not sealed by a holder of an access key")

// What is sealed, so that one is never taken for another. An answer's seal also covers its query's tag.
const (
	isQuery  = 'q'
	isAnswer = 'a'
)

func (k *key) tag(what byte, about, plain []byte) (tag [tagLen]byte) {
	h := hmac.New(sha256.New, k.mac[:])
	h.Write([]byte{what, byte(len(about))})
	h.Write(about)
	h.Write(plain)
	copy(tag[:], h.Sum(nil))
	return tag
}

func (k *key) xor(what byte, b []byte) {
	var iv [aes.BlockSize]byte
	copy(iv[:], b[:tagLen])
	iv[tagLen] = what
	cipher.NewCTR(k.mask, iv[:]).XORKeyStream(b[tagLen:], b[tagLen:])
}

// seal returns the tag and plain under the keystream that begins with it: the same plain is the same sealed, and any
// difference shows everywhere.
func (k *key) seal(what byte, about, plain []byte) []byte {
	tag := k.tag(what, about, plain)
	b := append(append(make([]byte, 0, tagLen+len(plain)), tag[:]...), plain...)
	k.xor(what, b)
	return b
}

// open is seal's other way. It works in place.
func (k *key) open(what byte, about, sealed []byte) ([]byte, error) {
	if len(sealed) < tagLen {
		return nil, errSeal
	}
	k.xor(what, sealed)
	plain := sealed[tagLen:]
	if tag := k.tag(what, about, plain); subtle.ConstantTimeCompare(tag[:], sealed[:tagLen]) == 0 {
		return nil, errSeal
	}
	return plain, nil
}

// What a query is for.
const (
	kindData  = iota
	kindOpen  // the same, and begins the session if need be
	kindClose // the client has gone
	kindProbe // the answer is as long as it may be, and means nothing
)

// A query is what a name says.
type query struct {
	session uint32 // 24 bits
	nonce   uint16
	kind    byte
	mode    uint16
	size    int // of the answer's message, in bytes
	segment int // of the gateway's; in kindOpen
	packet  []byte
}

const (
	queryHead   = 6
	sizeUnit    = 120 // above minMessage
	segmentUnit = 4
	minSegment  = 8
)

func (q *query) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, q.session<<8|uint32(q.nonce>>8))
	b = append(b, byte(q.nonce), q.kind<<6|byte(slices.Index(modes, q.mode))<<3|byte((q.size-minMessage)/sizeUnit))
	if q.kind == kindOpen {
		b = append(b, byte(q.segment/segmentUnit))
	}
	return append(b, q.packet...)
}

func parseQuery(b []byte) (q query, ok bool) {
	if len(b) < queryHead {
		return q, false
	}
	q = query{
		session: binary.BigEndian.Uint32(b) >> 8, nonce: binary.BigEndian.Uint16(b[3:]),
		kind: b[5] >> 6, size: minMessage + int(b[5]&7)*sizeUnit, packet: b[queryHead:],
	}
	mode := int(b[5] >> 3 & 7)
	if mode >= len(modes) {
		return q, false
	}
	q.mode = modes[mode]
	if q.kind == kindOpen {
		if len(q.packet) == 0 {
			return q, false
		}
		q.segment = int(q.packet[0]) * segmentUnit
		q.packet = q.packet[1:]
		if q.segment < minSegment {
			return q, false
		}
	}
	return q, true
}

// An answer begins with a byte of these.
const (
	answerGone = 1 << iota // there is no such session any more
	answerMore             // there is more: ask at once
)

const answerHead = 1
