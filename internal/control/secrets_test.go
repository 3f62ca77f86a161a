package control_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

func initSecrets(t testing.TB, dir string) *control.Secrets {
	t.Helper()
	s, err := control.InitSecrets(dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fingerprint is something of every secret.
func fingerprint(s *control.Secrets) string {
	return fmt.Sprintf("%x %x %x %x", s.Network(), s.DoorSecret([8]byte{1}), s.ControlKey(), s.DirectoryKey())
}

func TestInitSecretsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := fingerprint(initSecrets(t, dir))
	if again := fingerprint(initSecrets(t, dir)); again != first {
		t.Errorf("a second Init made other secrets:\n%s\n%s", first, again)
	}
	loaded, err := control.LoadSecrets(dir)
	if err != nil || fingerprint(loaded) != first {
		t.Errorf("loaded %v, %v; want %v", fingerprint(loaded), err, first)
	}
	if other := fingerprint(initSecrets(t, t.TempDir())); other == first {
		t.Error("two networks have the same secrets")
	}
	if runtime.GOOS == "windows" {
		return
	}
	modes := map[string]fs.FileMode{"keys": fs.ModeDir | 0o700, "keys/network": 0o600, "keys/door.key": 0o600,
		"keys/control.key": 0o600, "keys/directory.key": 0o600}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		if want, ok := modes[name]; !ok || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
		delete(modes, name)
		return nil
	})
	if err != nil || len(modes) != 0 {
		t.Errorf("walk: %v; missing are %v", err, modes)
	}
}

func TestInitSecretsTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	results := make([]string, 16)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			s, err := control.InitSecrets(dir, rand.Reader)
			if err != nil {
				t.Error(err)
				return
			}
			results[i] = fingerprint(s)
		})
	}
	wg.Wait()
	for _, r := range results {
		if r != results[0] {
			t.Fatalf("two of one Init each have different secrets:\n%s\n%s", r, results[0])
		}
	}
}

func TestInitSecretsAfterCrash(t *testing.T) {
	t.Parallel()
	for cut := range 4 { // how many files the crashed one had written
		dir := t.TempDir()
		before := fingerprint(initSecrets(t, dir))
		for _, name := range []string{"door.key", "control.key", "directory.key", "network"}[cut:] {
			if err := os.Remove(filepath.Join(dir, "keys", name)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := control.LoadSecrets(dir); !errors.Is(err, control.ErrNoSecrets) {
			t.Errorf("after %d files: error is %v, want %v", cut, err, control.ErrNoSecrets)
		}
		after := strings.Fields(fingerprint(initSecrets(t, dir)))
		for i, word := range strings.Fields(before)[1 : 1+cut] { // the network's id comes first in the text, last on disk
			if after[1+i] != word {
				t.Errorf("after %d files: secret %d was made anew", cut, i)
			}
		}
	}
}

func TestLostSecretIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"door.key", "control.key", "directory.key"} {
		dir := t.TempDir()
		initSecrets(t, dir)
		if err := os.Remove(filepath.Join(dir, "keys", name)); err != nil {
			t.Fatal(err)
		}
		if _, err := control.InitSecrets(dir, rand.Reader); !errors.Is(err, control.ErrSecretsLost) {
			t.Errorf("%s lost: error is %v, want %v", name, err, control.ErrSecretsLost)
		}
		if _, err := os.Stat(filepath.Join(dir, "keys", name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there again", name)
		}
	}
}

func TestLoadSecretsRefuses(t *testing.T) {
	t.Parallel()
	if _, err := control.LoadSecrets(t.TempDir()); !errors.Is(err, control.ErrNoSecrets) {
		t.Errorf("empty state directory: error is %v, want %v", err, control.ErrNoSecrets)
	}
	dir := t.TempDir()
	initSecrets(t, dir)
	door, err := os.ReadFile(filepath.Join(dir, "keys", "door.key"))
	if err != nil {
		t.Fatal(err)
	}
	// The right bytes in the wrong file: a kind is not taken for another.
	if err := os.WriteFile(filepath.Join(dir, "keys", "control.key"), door, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.LoadSecrets(dir); !errors.Is(err, secretfile.ErrFormat) {
		t.Errorf("exchanged files: error is %v, want %v", err, secretfile.ErrFormat)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, name := range []string{"", "network", "door.key", "control.key", "directory.key"} {
		dir := t.TempDir()
		initSecrets(t, dir)
		if err := os.Chmod(filepath.Join(dir, "keys", name), 0o750); err != nil {
			t.Fatal(err)
		}
		if _, err := control.LoadSecrets(dir); !errors.Is(err, secretfile.ErrExposed) {
			t.Errorf("keys/%s open to the group: error is %v, want %v", name, err, secretfile.ErrExposed)
		}
		if _, err := control.InitSecrets(dir, rand.Reader); !errors.Is(err, secretfile.ErrExposed) {
			t.Errorf("keys/%s open to the group: init says %v, want %v", name, err, secretfile.ErrExposed)
		}
	}
}

// counting is a source of bytes 0, 1, 2, ...
type counting byte

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(*c)
		*c++
	}
	return len(b), nil
}

func TestDoorSecretVector(t *testing.T) {
	t.Parallel()
	s, err := control.InitSecrets(t.TempDir(), new(counting)) // the door key is the first drawn: 00 01 .. 1f
	if err != nil {
		t.Fatal(err)
	}
	// openssl kdf -keylen 16 -kdfopt digest:SHA256 -kdfopt hexkey:0001..1f
	//   -kdfopt hexinfo:$(printf 'godwit door secret v1\1\2\3\4\5\6\7\10' | xxd -p) HKDF
	const want = "43633d1ebafff771a655d2dfffaed933"
	got := s.DoorSecret([8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("door secret is %x, want %s", got, want)
	}
	if other := s.DoorSecret([8]byte{1, 2, 3, 4, 5, 6, 7, 9}); other == got {
		t.Error("two access keys have the same door secret")
	}
	// The same with keylen 32 and the info "godwit website seed v1".
	const website = "13138e0a014f167924139f3602f7ad47045e2e71ebd6744a0dad2c7cf727c0fd"
	if seed := s.WebsiteSeed(); hex.EncodeToString(seed[:]) != website {
		t.Errorf("website seed is %x, want %s", seed, website)
	}
}

func TestDirectorySigner(t *testing.T) {
	t.Parallel()
	s := initSecrets(t, t.TempDir())
	signer := s.DirectorySigner()
	message := []byte("a directory")
	signature, err := signer.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(s.DirectoryKey(), message, signature) || !s.DirectoryKey().Equal(signer.Public()) {
		t.Error("the signer does not sign with the directory key")
	}
	if s.ControlKey().Equal(s.DirectoryKey()) {
		t.Error("one key signs both certificates and the directory")
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := initSecrets(t, dir)
	var out bytes.Buffer
	for _, v := range []any{s, *s, struct{ S *control.Secrets }{s}, s.DirectorySigner(), []any{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secrets", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secrets", v)
	}
	text := out.String()
	for _, name := range []string{"door.key", "control.key", "directory.key"} {
		line, err := os.ReadFile(filepath.Join(dir, "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(line))
		secret, err := base64.StdEncoding.DecodeString(fields[len(fields)-1])
		if err != nil {
			t.Fatal(err)
		}
		for form, s := range map[string]string{
			"base64":  base64.StdEncoding.EncodeToString(secret)[:8],
			"hex":     hex.EncodeToString(secret[:6]),
			"decimal": strings.Trim(fmt.Sprint(secret[:6]), "[]"),
			"raw":     string(secret[:6]),
		} {
			if strings.Contains(text, s) {
				t.Errorf("%s is in the output as %s:\n%s", name, form, text)
			}
		}
	}
}
