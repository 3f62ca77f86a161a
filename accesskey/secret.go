package accesskey

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// SecretSize is the door secret's size in bytes.
const SecretSize = 16

// Secret is a door secret. It does not print, does not marshal and cannot be compared with ==. The zero value is no
// secret: it equals another zero value, so a door checks IsZero first. A Secret never changes and may be copied.
type Secret struct {
	_ [0]func() // not comparable
	// Behind two pointers, because fmt cannot ask a value in somebody's unexported field how to print itself and would
	// write its bytes. Of a pointer it writes the address, save that for a verb which does not fit, as %s, it follows
	// one.
	p **[SecretSize]byte
}

// NewSecret makes a secret of b.
func NewSecret(b [SecretSize]byte) Secret {
	p := &b
	return Secret{p: &p}
}

// Reveal returns the secret's bytes, to derive the door's MAC key from.
func (s Secret) Reveal() [SecretSize]byte {
	if s.p == nil {
		return [SecretSize]byte{}
	}
	return **s.p
}

// Equal compares in constant time.
func (s Secret) Equal(o Secret) bool {
	a, b := s.Reveal(), o.Reveal()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// IsZero reports whether s is the zero value or sixteen zero bytes.
func (s Secret) IsZero() bool { return s.Equal(Secret{}) }

const hidden = "[door secret]"

func (s Secret) String() string { return hidden }

// Format hides the secret from every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

var errNoMarshal = errors.New("accesskey: refusing to marshal a secret: Key.Text gives the text of a key")

// MarshalText fails.
func (s Secret) MarshalText() ([]byte, error) { return nil, errNoMarshal }
