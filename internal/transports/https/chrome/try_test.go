package chrome

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	t.Parallel()
	for _, f := range []Family{FamilyChrome, FamilyFirefox} {
		if err := BuiltIn(f).Try(); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	for what, change := range map[string][2]string{
		"a protocol that no gateway speaks": {"\"h2\",\n\t\t\t\"http/1.1\"", "\"spdy/3\""},
		"no cipher of TLS 1.3":              {"1301 1302 1303 ", ""},
		"no signature that a server makes":  {" 0403 0804 0401 0503 0805 0501 0806 0601", ""},
	} {
		text := bytes.Replace(chromeText, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(text, chromeText) {
			t.Fatalf("%s: nothing was changed", what)
		}
		p, err := ParseProfile(text)
		if err != nil {
			continue // refused even earlier
		}
		if err := (&Browser{p, time.Now()}).Try(); err == nil {
			t.Errorf("%s: the profile passes", what)
		} else {
			t.Log(err)
		}
	}
}

func TestSave(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "chrome")
	for _, text := range []string{"one", "the other"} {
		if err := Save(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode() != fs.FileMode(0o600) {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := Save(filepath.Join(file, "x"), nil, 0o600); err == nil {
		t.Error("saved below a file")
	}
	if all, err := os.ReadDir(filepath.Dir(file)); err != nil || len(all) != 1 {
		t.Errorf("left behind: %v, %v", all, err)
	}
}
