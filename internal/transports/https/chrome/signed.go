package chrome

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A signed profile is text, so that whoever signs or mirrors it can read it:
//
//	godwit browser 1 2026-11-26T02:00:00Z                    when it was signed, in UTC, to the second
//	<base64url without padding: Ed25519 of all other bytes>  by the key that signs the directory
//	{"family": "chrome", …                                   the profile, to the end
//
// The first line tells it from whatever else that key signs. Who delivers it does not matter: a mirror can keep back a newer
// one, and that is all.
const signedStart = "godwit browser 1 "

// maxSigned bounds a signed profile.
const maxSigned = maxProfile + 256

// Sign signs a profile, which must be one that ParseProfile takes.
func Sign(profile []byte, key ed25519.PrivateKey, at time.Time) ([]byte, error) {
	if _, err := ParseProfile(profile); err != nil {
		return nil, err
	}
	first := signedStart + at.UTC().Format(time.RFC3339) + "\n"
	signature := base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, append([]byte(first), profile...)))
	return append([]byte(first+signature+"\n"), profile...), nil
}

// Verify reads a signed profile. Nothing of it is looked at, but for the form of its first two lines, before the signature has
// been found to be the key's.
func Verify(signed []byte, key ed25519.PublicKey) (*Browser, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("signed profile: a key of %d bytes, wants %d", len(key), ed25519.PublicKeySize)
	}
	if len(signed) > maxSigned {
		return nil, fmt.Errorf("signed profile: longer than %d bytes", maxSigned)
	}
	first, rest, ok := bytes.Cut(signed, []byte("\n"))
	second, profile, ok2 := bytes.Cut(rest, []byte("\n"))
	if !ok || !ok2 || !bytes.HasPrefix(first, []byte(signedStart)) {
		return nil, fmt.Errorf("signed profile: does not begin with %q and two lines", strings.TrimSpace(signedStart))
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(string(second))
	if err != nil || !ed25519.Verify(key, append(append(bytes.Clone(first), '\n'), profile...), signature) {
		return nil, errors.New("signed profile: not signed by the directory's key")
	}
	at, err := time.Parse(time.RFC3339, string(first[len(signedStart):]))
	if err != nil {
		return nil, errors.New("signed profile: its date is none, as in 2006-01-02T15:04:05Z")
	}
	p, err := ParseProfile(profile)
	if err != nil {
		return nil, fmt.Errorf("signed %w", err)
	}
	return &Browser{p, at}, nil
}

// Newest is the newest browser of a family: the one that was built in, unless another was signed after that was measured. Nil
// ones do not count.
func Newest(f Family, others ...*Browser) *Browser {
	best := BuiltIn(f)
	for _, b := range others {
		if b != nil && b.Family() == best.Family() && b.date.After(best.date) {
			best = b
		}
	}
	return best
}

// Load is Newest with what is in files, as signed profiles. There is always a browser; the error says which files are there
// and are none.
func Load(f Family, key ed25519.PublicKey, files ...string) (*Browser, error) {
	var read []*Browser
	var errs []error
	for _, file := range files {
		b, err := load(file, key)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%q: %w", file, err))
		}
		read = append(read, b)
	}
	return Newest(f, read...), errors.Join(errs...)
}

func load(file string, key ed25519.PublicKey) (*Browser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	signed, err := io.ReadAll(io.LimitReader(f, maxSigned+1))
	if err != nil {
		return nil, err
	}
	return Verify(signed, key)
}

// firefoxes of 256 devices look like Firefox: about as many people have it, on computers.
const firefoxes = 16

// FamilyOf is what a device looks like, all its life: it follows from its public key, so that nothing has to be kept, and
// nobody who sees the one can tell the other.
func FamilyOf(device []byte) Family {
	if h := sha256.Sum256(append([]byte("godwit browser of a device"), device...)); h[0] < firefoxes {
		return FamilyFirefox
	}
	return FamilyChrome
}
