package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

// Token is what a network's gateway gives to the machine that is to be its relay: all that it needs. It does not print;
// Text does.
type Token struct {
	Key   Key
	Homes []string // where the gateway is, host:port, best first
}

// Key is a relay's secret. It does not print.
type Key [32]byte

// Format hides the key from every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "[relay key]") }

// LogValue hides the key from logs.
func (Key) LogValue() slog.Value { return slog.StringValue("[relay key]") }

// MarshalText fails: a key is never written as part of something else.
func (Key) MarshalText() ([]byte, error) {
	return nil, errors.New("a relay's key is marshalled by Token.Text alone")
}

// DoorSecret is the secret of the relay's door for the access key with this id.
func (k Key) DoorSecret(id [8]byte) [16]byte {
	return [16]byte(k.derive("door secret v1"+string(id[:]), 16))
}

// TLSKey is the relay's TLS key, a scalar of P-256. Whoever made the token so knows its pin.
func (k Key) TLSKey() *ecdsa.PrivateKey {
	for i := byte(0); ; i++ {
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.derive("TLS key v1"+string([]byte{i}), 32))
		if err == nil { // all but one in 2^32 are scalars
			return key
		}
	}
}

// Pin is the SHA-256 of the SubjectPublicKeyInfo of the relay's TLS key.
func (k Key) Pin() [32]byte {
	spki, err := x509.MarshalPKIXPublicKey(k.TLSKey().Public())
	if err != nil {
		panic(err) // of a key of P-256 there is one
	}
	return sha256.Sum256(spki)
}

func (k Key) derive(what string, n int) []byte {
	b, err := hkdf.Key(sha256.New, k[:], nil, "godwit relay "+what, n)
	if err != nil {
		panic(err) // only for a length beyond 255 hashes
	}
	return b
}

const (
	tokenStart   = "godwit-relay-"
	tokenVersion = 1
	maxToken     = 8 << 10
	maxHomes     = 16
)

// tokenDoc is a token's content.
type tokenDoc struct {
	Version int      `json:"v"`
	Key     []byte   `json:"key"`
	Homes   []string `json:"homes"`
}

// ErrToken is matched by every error of ParseToken.
var ErrToken = errors.New("not a relay's token: copy the whole line that 'godwit gateway relay add' printed")

// Text is the token in one line, for the relay's operator and nobody else.
func (t Token) Text() string {
	b, err := json.Marshal(tokenDoc{tokenVersion, t.Key[:], t.Homes})
	if err != nil {
		panic(err) // strings and bytes always can be
	}
	sum := sha256.Sum256(b)
	return tokenStart + base64.RawURLEncoding.EncodeToString(append(b, sum[:4]...))
}

// ParseToken reads what Text wrote.
func ParseToken(s string) (t Token, err error) {
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, tokenStart)
	if !ok || len(s) > maxToken {
		return t, ErrToken
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || len(b) < 4 {
		return t, fmt.Errorf("%w: it is damaged", ErrToken)
	}
	b, sum := b[:len(b)-4], [4]byte(b[len(b)-4:])
	if whole := sha256.Sum256(b); [4]byte(whole[:]) != sum {
		return t, fmt.Errorf("%w: it is damaged or cut off", ErrToken)
	}
	var doc tokenDoc
	if err := json.Unmarshal(b, &doc); err != nil {
		return t, fmt.Errorf("%w: %w", ErrToken, err)
	}
	switch {
	case doc.Version != tokenVersion:
		return t, fmt.Errorf("%w: it is of version %d, which needs a newer Godwit", ErrToken, doc.Version)
	case len(doc.Key) != len(t.Key):
		return t, fmt.Errorf("%w: its key is %d bytes long", ErrToken, len(doc.Key))
	}
	if err := CheckHomes(doc.Homes); err != nil {
		return t, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return Token{Key(doc.Key), doc.Homes}, nil
}

// CheckHomes says what is wrong with a list of places that a relay is to forward to.
func CheckHomes(homes []string) error {
	if len(homes) == 0 || len(homes) > maxHomes {
		return fmt.Errorf("%d gateways to forward to: there must be 1 to %d", len(homes), maxHomes)
	}
	for _, h := range homes {
		host, port, err := net.SplitHostPort(h)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			return fmt.Errorf("%.80q is not host:port", h)
		}
	}
	return nil
}

// IsToken reports whether a text begins as a token does.
func IsToken(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), tokenStart) }
