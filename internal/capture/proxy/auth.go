package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Auth is the user and password that clients must give: by RFC 1929 in SOCKS5, by Basic in HTTP. It does not print.
type Auth struct {
	_              [0]func() // not comparable with ==
	user, password [sha256.Size]byte
}

// NewAuth refuses what one of the protocols could not carry.
func NewAuth(user, password string) (*Auth, error) {
	switch {
	case user == "" || len(user) > 255:
		return nil, errors.New("proxy user: must have 1 to 255 bytes")
	case strings.Contains(user, ":"):
		return nil, errors.New("proxy user: must not contain a colon")
	case password == "" || len(password) > 255:
		return nil, errors.New("proxy password: must have 1 to 255 bytes")
	}
	return &Auth{user: sha256.Sum256([]byte(user)), password: sha256.Sum256([]byte(password))}, nil
}

// admits compares hashes, so that neither content nor length shows in the time it takes.
func (a *Auth) admits(user, password string) bool {
	u, p := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(u[:], a.user[:])&subtle.ConstantTimeCompare(p[:], a.password[:]) == 1
}

// Format hides it from every verb.
func (Auth) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }
