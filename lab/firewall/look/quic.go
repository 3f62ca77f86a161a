package look

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

// QUIC versions.
const (
	QUICv1 = 1          // RFC 9000
	QUICv2 = 0x6b3343cf // RFC 9369
)

// Initial is a QUIC packet of type Initial, decrypted with the keys that its own header gives to everyone (RFC 9001,
// section 5.2).
type Initial struct {
	Version      uint32
	PacketNumber int // of how many bytes
	DestID       []byte
	SourceID     []byte
	// Crypto is what its CRYPTO frames hold, as they come.
	Crypto []Piece
	// Frames lists the types of frames, PADDING once for each run.
	Frames []byte
}

// Piece is a part of a stream.
type Piece struct {
	Offset int
	Data   []byte
}

// Join puts pieces in order, from zero to the first hole.
func Join(pieces []Piece) (b []byte) {
	pieces = slices.Clone(pieces)
	slices.SortStableFunc(pieces, func(x, y Piece) int { return x.Offset - y.Offset })
	for _, p := range pieces {
		if p.Offset > len(b) {
			break
		}
		if skip := len(b) - p.Offset; skip < len(p.Data) {
			b = append(b, p.Data[skip:]...)
		}
	}
	return b
}

// QUICInitial reads the first packet of a datagram that a client sent.
func QUICInitial(b []byte) (*Initial, error) {
	i := &Initial{}
	if len(b) < 7 || b[0]&0xc0 != 0xc0 {
		return nil, ErrNone
	}
	i.Version = binary.BigEndian.Uint32(b[1:])
	salt, label, kind := saltV1, "quic ", byte(0)
	switch i.Version {
	case QUICv1:
	case QUICv2:
		salt, label, kind = saltV2, "quicv2 ", 1
	default:
		return nil, ErrNone
	}
	if b[0]>>4&3 != kind {
		return nil, ErrNone
	}
	r := fieldReader{b: b, at: 5}
	i.DestID = r.bytes(int(r.byte()))
	i.SourceID = r.bytes(int(r.byte()))
	r.bytes(int(r.varint())) // token
	length := int(r.varint())
	pn := r.at
	if r.bad || length < 20 || pn+length > len(b) || len(i.DestID) > 20 {
		return nil, ErrNone
	}
	initial, err := hkdf.Extract(sha256.New, i.DestID, salt)
	if err != nil {
		return nil, ErrNone
	}
	secret := expand(initial, "client in", 32)
	key, iv, hp := expand(secret, label+"key", 16), expand(secret, label+"iv", 12), expand(secret, label+"hp", 16)

	// Header protection (RFC 9001, section 5.4).
	block, err := aes.NewCipher(hp)
	if err != nil {
		return nil, ErrNone
	}
	mask := make([]byte, 16)
	block.Encrypt(mask, b[pn+4:pn+20])
	header := slices.Clone(b[:pn+4])
	header[0] ^= mask[0] & 0x0f
	i.PacketNumber = int(header[0]&3) + 1
	header = header[:pn+i.PacketNumber]
	var number uint64
	for n := range i.PacketNumber {
		header[pn+n] ^= mask[1+n]
		number = number<<8 | uint64(header[pn+n])
	}
	nonce := slices.Clone(iv)
	for n := range 8 {
		nonce[len(nonce)-1-n] ^= byte(number >> (8 * n))
	}
	block, err = aes.NewCipher(key)
	if err != nil {
		return nil, ErrNone
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, ErrNone
	}
	plain, err := gcm.Open(nil, nonce, b[pn+i.PacketNumber:pn+length], header)
	if err != nil {
		return nil, ErrNone
	}
	return i, i.frames(plain)
}

var (
	saltV1 = []byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb,
		0x7f, 0x0a} // RFC 9001, section 5.2
	saltV2 = []byte{0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd,
		0x2e, 0xd9} // RFC 9369, section 3.3.1
)

// expand is HKDF-Expand-Label of TLS 1.3 (RFC 8446, section 7.1) with an empty context.
func expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err) // only for lengths that are not asked for here
	}
	return out
}

// frames reads those that an Initial of a client may have (RFC 9000, section 12.4).
func (i *Initial) frames(b []byte) error {
	r := fieldReader{b: b}
	for r.at < len(b) && !r.bad {
		t := r.byte()
		if n := len(i.Frames); t != 0 || n == 0 || i.Frames[n-1] != 0 {
			i.Frames = append(i.Frames, t)
		}
		switch t {
		case 0, 1: // PADDING, PING
		case 2, 3: // ACK
			r.varint()
			r.varint()
			ranges := r.varint()
			r.varint()
			for n := uint64(0); n < ranges && !r.bad; n++ {
				r.varint()
				r.varint()
			}
			if t == 3 {
				r.varint()
				r.varint()
				r.varint()
			}
		case 6: // CRYPTO
			offset := int(r.varint())
			i.Crypto = append(i.Crypto, Piece{offset, r.bytes(int(r.varint()))})
		default:
			return ErrNone
		}
	}
	if r.bad {
		return ErrNone
	}
	return nil
}

// ClientHello reads a hello that is whole in this packet; ErrMore if there is only the beginning of it.
func (i *Initial) ClientHello() (*clienthello.Hello, error) { return CryptoHello(Join(i.Crypto)) }

// CryptoHello reads a hello from the beginning of a client's CRYPTO stream; ErrMore if that is not all of it.
func CryptoHello(b []byte) (*clienthello.Hello, error) {
	if len(b) > 0 && b[0] != clientHello {
		return nil, ErrNone
	}
	if len(b) < 4 {
		return nil, ErrMore
	}
	length := 4 + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	if length > maxHello {
		return nil, ErrNone
	}
	if len(b) < length {
		return nil, ErrMore
	}
	return handshakeHello(b[:length], []byte{3, 3})
}

// fieldReader reads a packet's fields; after one that is not there everything is zero and bad is set.
type fieldReader struct {
	b   []byte
	at  int
	bad bool
}

func (r *fieldReader) bytes(n int) []byte {
	if r.bad || n < 0 || n > len(r.b)-r.at {
		r.bad = true
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *fieldReader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// varint reads a variable-length integer (RFC 9000, section 16).
func (r *fieldReader) varint() uint64 {
	first := r.byte()
	v := uint64(first & 0x3f)
	for range 1<<(first>>6) - 1 {
		v = v<<8 | uint64(r.byte())
	}
	if v > 1<<31 {
		r.bad = true
		return 0
	}
	return v
}
