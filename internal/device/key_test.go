package device

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

// seeded is a key that is the same in every run.
func seeded(t testing.TB, b byte) *Key {
	t.Helper()
	k, err := New(bytes.NewReader(bytes.Repeat([]byte{b}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestIDVector(t *testing.T) {
	t.Parallel()
	// printf 'godwit device id v1' + 32 bytes of 0x2a | sha256sum | cut -c1-32
	const want = "9f58ea0d2a46c30e48fff5949a626003"
	id := IDOf(bytes.Repeat([]byte{0x2a}, 32))
	if id.String() != want {
		t.Errorf("id is %s, want %s", id, want)
	}
	back, err := ParseID(want)
	if err != nil || back != id {
		t.Errorf("ParseID gives %v, %v; want %v", back, err, id)
	}
}

func TestParseIDRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "00", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("0", 34),
		strings.Repeat("g", 32), strings.Repeat("0", 30) + " 0"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q was read as %v", s, id)
		}
	}
}

func TestKeySignsAndSurvivesSaving(t *testing.T) {
	t.Parallel()
	k, err := New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state", "device.key")
	if err := k.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("a transcript")
	if !ed25519.Verify(k.Public(), message, again.Sign(message)) {
		t.Error("the loaded key signs otherwise than the saved one")
	}
	if k.ID() != IDOf(again.Public()) {
		t.Error("the loaded key has another id")
	}
}

func TestPublicIsACopy(t *testing.T) {
	t.Parallel()
	k := seeded(t, 1)
	k.Public()[0] ^= 1
	message := []byte("m")
	if !ed25519.Verify(k.Public(), message, k.Sign(message)) {
		t.Error("changing what Public returned changed the key")
	}
}

func TestNewWithoutRandomness(t *testing.T) {
	t.Parallel()
	if _, err := New(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("a key was made of 31 random bytes")
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: error is %v, want fs.ErrNotExist", err)
	}
	path := filepath.Join(dir, "device.key")
	if err := os.WriteFile(path, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, secretfile.ErrFormat) {
		t.Errorf("not a key: error is %v, want %v", err, secretfile.ErrFormat)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := seeded(t, 1).Save(filepath.Join(dir, "s", "device.key")); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s", "device.key")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, secretfile.ErrExposed) {
		t.Errorf("readable by the group: error is %v, want %v", err, secretfile.ErrExposed)
	}
}

func TestKeyNeverPrints(t *testing.T) {
	t.Parallel()
	k := seeded(t, 0x5a)
	secrets := []string{
		hex.EncodeToString(k.private.Seed()[:4]),
		base64.StdEncoding.EncodeToString(k.private.Seed())[:6],
		"90 90", // the bytes in decimal, as %v writes them
		"ZZZZ",  // and as they are
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+"\n", k)
		fmt.Fprintf(&out, verb+"\n", *k)
		fmt.Fprintf(&out, verb+"\n", struct{ K *Key }{k})
		fmt.Fprintf(&out, verb+"\n", struct{ K Key }{*k})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", k, "value", *k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", k, "value", *k)
	var boxed any = map[string]any{"key": k} // as it would be met inside something else
	if b, err := json.Marshal(boxed); err == nil {
		out.Write(b)
	}
	for _, s := range secrets {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(s)) {
			t.Errorf("output contains %q:\n%s", s, out.String())
		}
	}
}
