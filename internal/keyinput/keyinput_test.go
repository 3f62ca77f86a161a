package keyinput

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/godwit-vpn/godwit/accesskey"
)

func utf16Bytes(s string, order binary.AppendByteOrder) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune("\ufeff" + s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

func TestReadText(t *testing.T) {
	t.Parallel()
	key := testKey(1).Text()
	for name, data := range map[string]string{
		"as printed":         key + "\n",
		"a message":          "Hello,\r\n\r\nyour key: " + key + "\r\nBye",
		"UTF-8 with a mark":  "\ufeff" + key,
		"UTF-16":             string(utf16Bytes(key+"\r\n", binary.LittleEndian)),
		"UTF-16 big endian":  string(utf16Bytes("ключ: "+key, binary.BigEndian)),
		"UTF-16, a bit more": string(utf16Bytes(key+"\r\n", binary.LittleEndian)) + "x",
	} {
		t.Run(name, func(t *testing.T) {
			want(t, 1, "-", []byte(data))
			want(t, 1, " - ", []byte(data))
			want(t, 1, file(t, "key.txt", []byte(data)), nil)
		})
	}
	want(t, 1, key, nil)
	want(t, 1, "  '"+key+"' ", nil)
}

func TestReadEnvironment(t *testing.T) {
	t.Parallel()
	env := func(name string) string {
		if name != "GODWIT_KEY" {
			t.Errorf("asked for %q", name)
		}
		return testKey(2).Text()
	}
	k, source, err := Read("", strings.NewReader("not read"), env)
	if err != nil || source != "GODWIT_KEY" || k.Text() != testKey(2).Text() {
		t.Errorf("got %v from %s, %v", k, source, err)
	}
	k, source, err = Read(testKey(3).Text(), nil, env)
	if err != nil || source != "the argument" || k.Text() != testKey(3).Text() {
		t.Errorf("an argument beside the environment: got %v from %s, %v", k, source, err)
	}
	if _, source, err = Read("", nil, noEnv); err != ErrNoKey || source != "GODWIT_KEY" {
		t.Errorf("nothing given: %s, %v", source, err)
	}
	if err.Error() != "no access key given: paste it, pipe it with -, name a file or QR picture, or set GODWIT_KEY" {
		t.Errorf("the person is told %q", err)
	}
	_, _, err = Read("", nil, func(string) string { return "godwit://A" })
	if !errors.Is(err, accesskey.ErrTruncated) || !strings.HasPrefix(err.Error(), "GODWIT_KEY: ") {
		t.Errorf("a broken one in the environment: %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	key := testKey(4).Text()
	payload := key[len("godwit://"):][:34]
	dir := t.TempDir()
	for name, c := range map[string]struct {
		arg   string
		stdin []byte
		is    error
		says  string
	}{
		"cut off":             {arg: key[:80], is: accesskey.ErrTruncated, says: "the argument: "},
		"without beginning":   {arg: key[3:], is: accesskey.ErrTruncated, says: "beginning"},
		"changed":             {arg: strings.Replace(key, "pin=", "pin=x", 1), is: accesskey.ErrMangled},
		"payload alone":       {arg: payload, is: accesskey.ErrNotKey, says: "the argument is no file"},
		"half of a payload":   {arg: payload[8:], is: accesskey.ErrNotKey, says: "the argument is no file"},
		"no such file":        {arg: "dir/a.txt", is: accesskey.ErrNotKey, says: `"dir/a.txt" is no file`},
		"a word":              {arg: "up", is: accesskey.ErrNotKey, says: `"up" is no file`},
		"impossible file":     {arg: strings.Repeat("x/", 5000), is: accesskey.ErrNotKey},
		"NUL":                 {arg: "a\x00b", is: accesskey.ErrNotKey},
		"another program":     {arg: "ss://abc@h:1", is: accesskey.ErrNotKey, says: "ss://"},
		"directory":           {arg: dir, says: "directory"},
		"empty stdin":         {arg: "-", is: ErrNoKey, says: "standard input: empty"},
		"blank stdin":         {arg: "-", stdin: []byte(" \n"), is: ErrNoKey},
		"broken on stdin":     {arg: "-", stdin: []byte(key[:90]), is: accesskey.ErrTruncated, says: "standard input: "},
		"empty file":          {arg: file(t, "e.txt", nil), is: ErrNoKey, says: `e.txt"`},
		"file of words":       {arg: file(t, "w.txt", []byte("hello")), is: accesskey.ErrNotKey, says: `w.txt"`},
		"broken file":         {arg: file(t, "b.txt", []byte(key[:90])), is: accesskey.ErrTruncated, says: `b.txt"`},
		"program":             {arg: file(t, "p", []byte("\x7fELF\x02\x01\x01\x00\x00")), is: accesskey.ErrNotKey},
		"long text":           {arg: "-", stdin: bytes.Repeat([]byte("x"), maxText+1), says: "too large"},
		"endless":             {arg: "-", stdin: bytes.Repeat([]byte("x"), maxPicture+1), says: "too large"},
		"WebP":                {arg: "-", stdin: []byte("RIFF\x10\x00\x00\x00WEBPVP8 "), says: "WebP picture"},
		"HEIC":                {arg: "-", stdin: []byte("\x00\x00\x00\x18ftypheic"), says: "PNG or JPEG"},
		"PDF":                 {arg: "-", stdin: []byte("%PDF-1.7\n"), says: "PDF"},
		"TIFF":                {arg: "-", stdin: []byte("II*\x00\x08\x00"), says: "TIFF"},
		"BMP":                 {arg: "-", stdin: []byte("BM\x01\x02\x03\x04\x00\x00\x00\x00"), says: "BMP"},
		"damaged PNG":         {arg: "-", stdin: []byte("\x89PNG\r\n\x1a\nxxxx"), says: "damaged PNG"},
		"damaged JPEG":        {arg: "-", stdin: []byte("\xff\xd8\xff\xe0xxxx"), says: "damaged JPEG"},
		"damaged GIF":         {arg: "-", stdin: []byte("GIF89axx"), says: "damaged GIF"},
		"text that begins BM": {arg: "-", stdin: []byte("BMW is a car"), is: accesskey.ErrNotKey},
	} {
		k, source, err := Read(c.arg, bytes.NewReader(c.stdin), noEnv)
		switch {
		case err == nil:
			t.Errorf("%s: read %v", name, k)
			continue
		case c.is != nil && !errors.Is(err, c.is):
			t.Errorf("%s: %v does not match %v", name, err, c.is)
		case !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: %q does not say %q", name, err, c.says)
		case source == "":
			t.Errorf("%s: no source", name)
		}
		for i := 0; i+6 <= len(payload); i++ {
			if strings.Contains(err.Error()+source, payload[i:i+6]) {
				t.Errorf("%s: %q shows the payload", name, err)
				break
			}
		}
	}
}

func TestReadFailures(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	if _, _, err := Read("-", iotest.ErrReader(broken), noEnv); !errors.Is(err, broken) {
		t.Errorf("a failing reader: %v", err)
	}
	slow := iotest.OneByteReader(strings.NewReader(testKey(5).Text()))
	if k, _, err := Read("-", slow, noEnv); err != nil || k.Text() != testKey(5).Text() {
		t.Errorf("a slow reader: %v", err)
	}
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		t.Skip("this user may read everything")
	}
	path := file(t, "k.txt", []byte(testKey(5).Text()))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path, nil, noEnv); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("an unreadable file: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	key := testKey(6).Text()
	small := place(code(f, 6), 100, 100, 0, 0.15, 255)
	for _, data := range [][]byte{
		[]byte(key), utf16Bytes(key, binary.LittleEndian), asPNG(f, small), asJPEG(f, small, 30), asGIF(f, small),
		[]byte("BM"),
	} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Large pictures are slow, and their size is all that is new about them.
		if k := sniff(data); k.config != nil {
			if c, err := k.config(bytes.NewReader(data)); err == nil && c.Width*c.Height > 40_000 {
				t.Skip()
			}
		}
		k, source, err := Read("-", bytes.NewReader(data), noEnv)
		if source != "standard input" || (err == nil) != (k.Text() != "") {
			t.Errorf("%v from %q: %v", k, source, err)
		}
	})
}
