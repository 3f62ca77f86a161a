package chrome

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// MaxSigned bounds a signed profile, in bytes.
const MaxSigned = maxProfile + 256

// Sign signs a profile, which must be one that ParseProfile takes, with an Ed25519 key.
func Sign(profile []byte, key crypto.Signer, at time.Time) ([]byte, error) {
	if _, err := ParseProfile(profile); err != nil {
		return nil, err
	}
	first := signedStart + at.UTC().Format(time.RFC3339) + "\n"
	signature, err := key.Sign(nil, append([]byte(first), profile...), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("signing a profile: %w", err)
	}
	return append([]byte(first+base64.RawURLEncoding.EncodeToString(signature)+"\n"), profile...), nil
}

// IsSigned reports whether a text means to be a signed profile.
func IsSigned(text []byte) bool { return bytes.HasPrefix(text, []byte(signedStart)) }

// Verify reads a signed profile. Nothing of it is looked at, but for the form of its first two lines, before the signature has
// been found to be the key's.
func Verify(signed []byte, key ed25519.PublicKey) (*Browser, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("signed profile: a key of %d bytes, wants %d", len(key), ed25519.PublicKeySize)
	}
	if len(signed) > MaxSigned {
		return nil, fmt.Errorf("signed profile: longer than %d bytes", MaxSigned)
	}
	first, rest, ok := bytes.Cut(signed, []byte("\n"))
	second, profile, ok2 := bytes.Cut(rest, []byte("\n"))
	if !ok || !ok2 || !IsSigned(first) {
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
		b, _, err := Read(file, key)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%q: %w", file, err))
		}
		read = append(read, b)
	}
	return Newest(f, read...), errors.Join(errs...)
}

// Read is Verify of a file. signed is what is in it.
func Read(file string, key ed25519.PublicKey) (b *Browser, signed []byte, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if signed, err = io.ReadAll(io.LimitReader(f, MaxSigned+1)); err != nil {
		return nil, nil, err
	}
	if b, err = Verify(signed, key); err != nil {
		return nil, nil, err
	}
	return b, signed, nil
}

// Save writes a signed profile where Load finds it, whole or not at all. It is no secret: the mode is the caller's choice.
func Save(file string, signed []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(signed)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
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
