// Package keyinput takes an access key as people give it: pasted, piped, in a file, as a picture of a QR code or in the
// environment; and draws the QR code for the next person.
package keyinput

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"unicode/utf16"

	"github.com/godwit-vpn/godwit/accesskey"
)

// Variable is the environment variable that holds a key.
const Variable = "GODWIT_KEY"

// What is read at most. A phone's photograph of 12 million pixels is 3 to 6 MB; decoding one of the largest takes some
// 200 MB for a moment, which the user who names the picture spends on their own machine.
const (
	maxText    = 64 << 10
	maxPicture = 12 << 20 // bytes
	maxPixels  = 24_000_000
	maxSide    = 1 << 14 // pixels
)

// ErrNoKey: nothing was given.
var ErrNoKey = errors.New(
	"no access key given: paste it, pipe it with -, name a file or QR picture, or set " + Variable)

// Read takes the key that arg gives: a key itself, "-" for stdin, or a file, where both may hold text or a PNG, JPEG or
// GIF picture of a QR code. With an empty arg it takes the one in the environment. source says in English where the key
// came from, also when it was no good. Errors hold no part of a key; those about the key itself match accesskey's.
func Read(arg string, stdin io.Reader, env func(string) string) (k accesskey.Key, source string, err error) {
	switch strings.TrimSpace(arg) {
	case "":
		source = Variable
		v := env(Variable)
		if strings.TrimSpace(v) == "" {
			return accesskey.Key{}, source, ErrNoKey
		}
		k, err = accesskey.Parse(v)
	case "-":
		source = "standard input"
		k, err = fromReader(stdin)
	default:
		return fromArgument(arg)
	}
	if err != nil {
		return accesskey.Key{}, source, fmt.Errorf("%s: %w", source, err)
	}
	return k, source, nil
}

// fromArgument reads an argument that is a key or names a file.
func fromArgument(arg string) (accesskey.Key, string, error) {
	const pasted = "the argument"
	k, parseErr := accesskey.Parse(arg)
	if parseErr == nil {
		return k, pasted, nil
	}
	f, err := os.Open(arg)
	if err != nil {
		// A broken key or another program's key is no file name. Neither is what no file can be called.
		switch {
		case !errors.Is(parseErr, accesskey.ErrNotKey), strings.Contains(arg, "://"):
			return accesskey.Key{}, pasted, fmt.Errorf("%s: %w", pasted, parseErr)
		case errors.Is(err, fs.ErrPermission):
			return accesskey.Key{}, name(arg), fmt.Errorf("%s: %w", name(arg), fs.ErrPermission)
		}
		return accesskey.Key{}, pasted, &accesskey.ParseError{
			Kind: accesskey.ErrNotKey, Reason: name(arg) + " is no file that can be read either",
			Hint: "an access key begins with godwit://; - reads it from standard input",
		}
	}
	defer f.Close()
	source := fmt.Sprintf("file %.200q", arg) // it exists, so it is no key
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return accesskey.Key{}, source, fmt.Errorf("%s is a directory: name the file in it that holds the key", source)
	}
	k, err = fromReader(f)
	if err != nil {
		return accesskey.Key{}, source, fmt.Errorf("%s: %w", source, err)
	}
	return k, source, nil
}

var longWord = regexp.MustCompile(`[A-Za-z0-9_-]{24}`)

// name quotes an argument, unless a part of it could be of a key.
func name(arg string) string {
	if len(arg) > 200 || longWord.MatchString(arg) {
		return "the argument"
	}
	return fmt.Sprintf("%q", arg)
}

// fromReader reads a key from all that r gives: a picture or text.
func fromReader(r io.Reader) (accesskey.Key, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPicture+1))
	if err != nil {
		// Not the whole error: of a file it would hold the name.
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return accesskey.Key{}, fmt.Errorf("cannot be read: %w", err)
	}
	kind := sniff(data)
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return accesskey.Key{}, fmt.Errorf("empty: %w", ErrNoKey)
	case len(data) > maxPicture:
		return accesskey.Key{}, fmt.Errorf("more than %d MB, too large for a key or a picture of one", maxPicture>>20)
	case kind.decode != nil:
		return fromPicture(data, kind)
	case kind.name != "":
		return accesskey.Key{}, fmt.Errorf("a %s cannot be read: make it a PNG or JPEG picture", kind.name)
	case len(data) > maxText:
		return accesskey.Key{}, fmt.Errorf("%d bytes, too large for a key and not a picture", len(data))
	}
	return accesskey.Parse(text(data))
}

// text is data as a string: what Windows writes as "Unicode" is UTF-16 with a byte order mark.
func text(data []byte) string {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return string(data)
	}
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return string(utf16.Decode(units))
}
