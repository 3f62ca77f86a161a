package device

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

// ID is what a device is called wherever its key is not needed: the first 16 bytes of
// SHA-256("godwit device id v1" || public key). It is as random as the key and says nothing else.
type ID [16]byte

// IDOf names the device that holds the private half of public.
func IDOf(public ed25519.PublicKey) ID {
	h := sha256.New()
	h.Write([]byte("godwit device id v1"))
	h.Write(public)
	return ID(h.Sum(nil)[:len(ID{})])
}

// ParseID reads what String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if hex.DecodedLen(len(s)) != len(id) || len(s)%2 != 0 {
		return ID{}, fmt.Errorf("device id %q is not %d hexadecimal digits", s, 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("device id %q is not %d hexadecimal digits", s, 2*len(id))
	}
	return id, nil
}

// String is the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Key is a device's Ed25519 key. It never prints and cannot be compared. Safe for concurrent use.
type Key struct {
	_       [0]func() // not comparable
	private ed25519.PrivateKey
}

const keyKind = "godwit device key v1"

// New makes a key from 32 bytes of rand, which is crypto/rand's Reader outside tests.
func New(rand io.Reader) (*Key, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("make a device key: %w", err)
	}
	return &Key{private: ed25519.NewKeyFromSeed(seed)}, nil
}

// Load reads the key that Save wrote to path. It refuses a file that other users can read; an absent one matches
// fs.ErrNotExist.
func Load(path string) (*Key, error) {
	seed, err := secretfile.Read(path, keyKind, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("load the device key: %w", err)
	}
	return &Key{private: ed25519.NewKeyFromSeed(seed)}, nil
}

// Save writes the key to path in one step, for its owner's eyes only, making the directory where there is none.
func (k *Key) Save(path string) error {
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = secretfile.Write(path, keyKind, k.private.Seed())
	}
	if err != nil {
		return fmt.Errorf("save the device key: %w", err)
	}
	return nil
}

// Public is the key's public half; the caller owns the copy.
func (k *Key) Public() ed25519.PublicKey {
	return append(ed25519.PublicKey(nil), k.private[ed25519.SeedSize:]...)
}

// ID is IDOf the public half.
func (k *Key) ID() ID { return IDOf(k.Public()) }

// Sign signs message. The caller separates domains: what is signed begins with a text that no other message begins
// with.
func (k *Key) Sign(message []byte) []byte { return ed25519.Sign(k.private, message) }

const redacted = "device key (hidden)"

// Format keeps the key out of every fmt verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue keeps the key out of logs.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }
