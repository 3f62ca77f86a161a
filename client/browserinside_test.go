package client

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// Whatever a gateway sends, the client goes on with the newest good profile of its family.
func TestTakeBrowser(t *testing.T) {
	t.Parallel()
	public, key, _ := ed25519.GenerateKey(rand.Reader)
	_, foreign, _ := ed25519.GenerateKey(rand.Reader)
	dir := filepath.Join(t.TempDir(), "state")
	cfg := Config{Key: accesskey.Key{ID: [8]byte{1}, Secret: accesskey.NewSecret([16]byte{1}), Pin: [32]byte{1}, DirectoryKey: public,
		Endpoints: []accesskey.Endpoint{{Host: "192.0.2.1", Port: 443}}}, StateDir: dir, Browser: "chrome"}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) []byte {
		b, err := os.ReadFile("../internal/transports/https/chrome/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	at := chrome.BuiltIn(chrome.FamilyChrome).Date()
	sign := func(k ed25519.PrivateKey, days int, profile []byte) []byte {
		b, err := chrome.Sign(profile, k, at.AddDate(0, 0, days))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	usual, fox := file("chrome.json"), file("firefox.json")
	deaf := bytes.Replace(usual, []byte("1301 1302 1303 "), nil, 1)
	for _, tt := range []struct {
		what  string
		sent  []byte
		error string
		days  int // of what is in use thereafter
	}{
		{"nothing", []byte{}, "begin", 0},
		{"noise", bytes.Repeat([]byte{0xff}, chrome.MaxSigned+1), "longer", 0},
		{"another's key", sign(foreign, 20, usual), "directory's key", 0},
		{"a first one", sign(key, 10, usual), "", 10},
		{"it again", sign(key, 10, usual), errOlderBrowser.Error(), 10},
		{"an older one", sign(key, 9, usual), errOlderBrowser.Error(), 10},
		{"another family's", sign(key, 20, fox), errOlderBrowser.Error(), 10},
		{"one that no gateway understands", sign(key, 20, deaf), "no handshake", 10},
		{"a newer one", sign(key, 11, usual), "", 11},
	} {
		err := c.takeBrowser(tt.sent)
		if (err == nil) != (tt.error == "") || err != nil && !strings.Contains(err.Error(), tt.error) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.error)
		}
		want := at.AddDate(0, 0, tt.days)
		again, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if now, later := c.Status().Browser.Date, again.Status().Browser.Date; !now.Equal(want) || !later.Equal(want) {
			t.Errorf("%s: in use is one of %v, in the next run of %v, want %v", tt.what, now, later, want)
		}
	}
	// A kept one that was damaged is ignored.
	if err := os.WriteFile(c.browserFile(chrome.FamilyChrome), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := New(cfg); err != nil || again.Status().Browser.Source != "built-in" {
		t.Errorf("a damaged file: %v", err)
	}
}

// A profile with which no dial succeeds is put aside every other time.
func TestWear(t *testing.T) {
	t.Parallel()
	public, key, _ := ed25519.GenerateKey(rand.Reader)
	c, err := New(Config{Key: accesskey.Key{ID: [8]byte{1}, Secret: accesskey.NewSecret([16]byte{1}), Pin: [32]byte{1}, DirectoryKey: public,
		Endpoints: []accesskey.Endpoint{{Host: "192.0.2.1", Port: 443}}}, Browser: "firefox"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../internal/transports/https/chrome/firefox.json")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := chrome.Sign(text, key, time.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.takeBrowser(signed); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, want := range []string{"network", "built-in", "network", "built-in"} {
		c.wearLocked()
		if got := c.wornLocked(); got.Source != want || got.Family != "firefox" {
			t.Errorf("after %d failures: %+v", i, got)
		}
		c.failedLocked(errors.New("no"))
	}
}
