package firewalltest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

// Initial makes a QUIC packet of type Initial as a client sends it (RFC 9001, section 5; RFC 9369 if the version is 2's),
// numbered 2, of the given frames.
func Initial(t testing.TB, version uint32, dest []byte, frames []byte) []byte {
	t.Helper()
	salt, label, kind := "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic ", byte(0xc0)
	if version == 0x6b3343cf {
		salt, label, kind = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 ", 0xd0
	}
	const numberLen = 4
	header := append(binary.BigEndian.AppendUint32([]byte{kind | numberLen - 1}, version), byte(len(dest)))
	header = append(header, dest...)
	header = append(header, 0, 0) // no source id, no token
	header = binary.BigEndian.AppendUint16(header, 0x4000|uint16(numberLen+len(frames)+16))
	header = append(header, 0, 0, 0, 2)

	expand := func(secret []byte, label string, n int) []byte {
		info := append([]byte{0, byte(n), byte(6 + len(label))}, "tls13 "+label+"\x00"...)
		out, err := hkdf.Expand(sha256.New, secret, string(info), n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	block := func(key []byte) cipher.Block {
		b, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	initial, err := hkdf.Extract(sha256.New, dest, []byte(salt))
	if err != nil {
		t.Fatal(err)
	}
	secret := expand(initial, "client in", 32)
	nonce := expand(secret, label+"iv", 12)
	nonce[11] ^= 2
	gcm, err := cipher.NewGCM(block(expand(secret, label+"key", 16)))
	if err != nil {
		t.Fatal(err)
	}
	packet := gcm.Seal(header, nonce, frames, header)
	at := len(header) - numberLen
	mask := make([]byte, 16)
	block(expand(secret, label+"hp", 16)).Encrypt(mask, packet[at+4:at+20])
	packet[0] ^= mask[0] & 0x0f
	for i := range numberLen {
		packet[at+i] ^= mask[1+i]
	}
	return packet
}

// Crypto makes a CRYPTO frame (RFC 9000, section 19.6).
func Crypto(offset int, data []byte) []byte {
	b := []byte{6}
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(offset))
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(len(data)))
	return append(b, data...)
}
