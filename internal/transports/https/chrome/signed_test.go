package chrome

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// signAny signs what Sign would refuse.
func signAny(first, profile string, k ed25519.PrivateKey) []byte {
	return []byte(first + "\n" + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k, []byte(first+"\n"+profile))) + "\n" + profile)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	at := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	signed, err := Sign(chromeText, key(1), at.In(time.FixedZone("", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Verify(signed, public(key(1)))
	if err != nil || !b.Date().Equal(at) || b.Family() != FamilyChrome || b.String() != BuiltIn(FamilyChrome).String() {
		t.Fatalf("%v of %v, %v", b, b.Date(), err)
	}
	if _, err := Sign([]byte("{}"), key(1), at); err == nil {
		t.Error("what is no profile was signed")
	}
	const first = signedStart + "2027-01-02T03:04:05Z"
	for name, c := range map[string]struct {
		signed []byte
		want   string
	}{
		"another key":              {signAny(first, string(chromeText), key(2)), "directory's key"},
		"another date":             {bytes.Replace(signed, []byte("2027"), []byte("2028"), 1), "directory's key"},
		"another browser":          {bytes.Replace(signed, []byte("c02b"), []byte("c02c"), 1), "directory's key"},
		"more":                     {append(bytes.Clone(signed), '\n'), "directory's key"},
		"no signature":             {[]byte(first + "\n\n" + string(chromeText)), "directory's key"},
		"padding":                  {bytes.Replace(signed, []byte("\n{"), []byte("==\n{"), 1), "directory's key"},
		"something else, signed":   {signAny("godwit directory 1 x", string(chromeText), key(1)), "begin"},
		"no date, signed":          {signAny(signedStart+"yesterday", string(chromeText), key(1)), "date"},
		"no profile, signed":       {signAny(first, "{}", key(1)), "family"},
		"too long":                 {append(bytes.Clone(signed), make([]byte, MaxSigned)...), "longer"},
		"nothing":                  {nil, "begin"},
		"a profile without a head": {chromeText, "begin"},
	} {
		if _, err := Verify(c.signed, public(key(1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := Verify(signed, nil); err == nil {
		t.Error("verified without a key")
	}
}

// The newest of the device's family counts, whatever else lies there, and there is always one.
func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	measured := BuiltIn(FamilyChrome).Date()
	write := func(name string, text []byte, at time.Time, k ed25519.PrivateKey, browser string) string {
		text = bytes.Replace(text, []byte(`"browser": "`), []byte(`"browser": "`+browser+", "), 1)
		signed, err := Sign(text, k, at)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, signed, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	newer := write("newer", chromeText, measured.AddDate(0, 1, 0), key(1), "newer")
	newest := write("newest", chromeText, measured.AddDate(0, 2, 0), key(1), "newest")
	older := write("older", chromeText, measured.AddDate(0, -1, 0), key(1), "older")
	foreign := write("foreign", chromeText, measured.AddDate(1, 0, 0), key(2), "foreign")
	fox := write("fox", firefoxText, BuiltIn(FamilyFirefox).Date().AddDate(0, 3, 0), key(1), "fox")
	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		family Family
		files  []string
		want   string // how the browser's name begins
		fails  int
	}{
		{FamilyChrome, nil, "Chromium", 0},
		{FamilyChrome, []string{none}, "Chromium", 0},
		{FamilyChrome, []string{older}, "Chromium", 0},
		{FamilyChrome, []string{newer, older}, "newer", 0},
		{FamilyChrome, []string{newest, newer, fox}, "newest", 0},
		{FamilyChrome, []string{foreign, newer}, "newer", 1},
		{FamilyChrome, []string{foreign, dir}, "Chromium", 2},
		{FamilyFirefox, []string{newest}, "Mozilla", 0},
		{FamilyFirefox, []string{newest, fox}, "fox", 0},
	} {
		b, err := Load(c.family, public(key(1)), c.files...)
		fails := 0
		if err != nil {
			fails = len(err.(interface{ Unwrap() []error }).Unwrap())
		}
		if !strings.HasPrefix(b.String(), c.want) || fails != c.fails {
			t.Errorf("%s, %v: %v, %v", c.family, c.files, b, err)
		}
	}
}

func TestFamilyOf(t *testing.T) {
	t.Parallel()
	count := 0
	for i := range 4000 {
		device := fmt.Append(nil, i)
		if f := FamilyOf(device); f == FamilyFirefox {
			count++
		} else if f != FamilyChrome || f != FamilyOf(device) {
			t.Fatal(f)
		}
	}
	if count < 4000*firefoxes/256/2 || count > 4000*firefoxes/256*2 {
		t.Errorf("%d of 4000 devices are Firefoxes", count)
	}
}

// FuzzVerify wants that nothing is verified that was not signed.
func FuzzVerify(f *testing.F) {
	signed, err := Sign(chromeText, key(1), time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(signAny(signedStart, "{}", key(1)))
	f.Add([]byte(signedStart + "2027-01-02T03:04:05Z\n\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Verify(b, public(key(1))); err == nil && !bytes.Equal(b, signed) {
			t.Errorf("verified %q", b)
		}
	})
}
