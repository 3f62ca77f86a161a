// Package secretfile keeps one secret in one file that only its owner may read. A file is replaced in one step or not
// at all, and one that others could have read is refused, because what it holds is no longer a secret.
//
// The file is one line of text, so that a person who finds it knows what it is:
//
//	kind, space, the secret in base64 (standard alphabet, with padding), newline
//
// kind is fixed by the caller ("godwit device key v1"). Anything else in the file makes it unreadable.
//
// On Windows permission bits say nothing and are not looked at: there the directory's access list has to protect it.
package secretfile

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrExposed is matched when a file or directory is open to other users of the machine.
var ErrExposed = errors.New("other users of this machine could read it")

// ErrFormat is matched when a file is not what its kind says.
var ErrFormat = errors.New("not a file of this kind, or damaged: restore it from a backup")

const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o700

	// maxSize is far above any kind plus a 64-byte key; whatever is longer is not ours and is not read.
	maxSize = 1 << 10
)

// Read returns the secret of size bytes that path holds. An absent file matches fs.ErrNotExist.
func Read(path, kind string, size int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // a *PathError: it quotes the path already
	}
	defer f.Close()
	info, err := f.Stat() // of the open file, so that it cannot be exchanged between the check and the read
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %q: %w", path, ErrFormat)
	}
	if exposed(info) {
		return nil, fmt.Errorf("read %q: %w: replace the secret, or if you are sure nobody has read it: chmod 600 %s",
			path, ErrExposed, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	secret, err := parse(text, kind, size)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return secret, nil
}

// Write puts secret into path, replacing what was there: after a crash the file holds the old secret or the new one.
func Write(path, kind string, secret []byte) error {
	return put(path, kind, secret, os.Rename)
}

// Create is Write for a path that must not exist yet, or else it fails and matches fs.ErrExist. Of several processes
// that create the same path at once exactly one succeeds. It needs hard links, which Android does not give to apps.
func Create(path, kind string, secret []byte) error {
	return put(path, kind, secret, func(temporary, path string) error {
		if err := os.Link(temporary, path); err != nil {
			return err
		}
		return os.Remove(temporary)
	})
}

// Dir makes the directory path, its parents too, or checks that an existing one is closed to others.
func Dir(path string) error {
	if err := os.MkdirAll(path, dirMode); err != nil {
		return err
	}
	return CheckDir(path)
}

// CheckDir fails if path is not a directory or is open to others.
func CheckDir(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("open %q: not a directory", path)
	case exposed(info):
		return fmt.Errorf("open %q: %w: chmod 700 %s", path, ErrExposed, path)
	}
	return nil
}

func put(path, kind string, secret []byte, commit func(temporary, path string) error) error {
	// CreateTemp asks for mode 0600, and the name keeps a crash's leftover recognisable.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	temporary := f.Name()
	_, err = f.Write(format(kind, secret))
	if err == nil {
		err = f.Chmod(fileMode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = commit(temporary, path)
	}
	if err != nil {
		return errors.Join(err, ignoreAbsent(os.Remove(temporary)))
	}
	return syncDir(filepath.Dir(path))
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func format(kind string, secret []byte) []byte {
	text := append([]byte(kind), ' ')
	text = base64.StdEncoding.AppendEncode(text, secret)
	return append(text, '\n')
}

func parse(text []byte, kind string, size int) ([]byte, error) {
	rest, ok := bytes.CutPrefix(text, []byte(kind+" "))
	if !ok {
		return nil, fmt.Errorf("%w (it does not begin with %q)", ErrFormat, kind)
	}
	line, ok := bytes.CutSuffix(rest, []byte("\n"))
	if !ok || len(line) != base64.StdEncoding.EncodedLen(size) || bytes.ContainsAny(line, "\r\n") {
		return nil, fmt.Errorf("%w (it is cut off or too long)", ErrFormat)
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(string(line))
	if err != nil || len(secret) != size {
		return nil, fmt.Errorf("%w (it is not base64 of %d bytes)", ErrFormat, size)
	}
	return secret, nil
}
