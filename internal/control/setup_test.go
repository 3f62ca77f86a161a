package control_test

import (
	"crypto/rand"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup is control on a real store in a directory of its own.
func setup(t *testing.T) *control.Service {
	t.Helper()
	return serviceIn(t, t.TempDir())
}

func serviceIn(t *testing.T, dir string) *control.Service {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "godwit.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := control.New(t.Context(), control.Config{Store: s, Secrets: initSecrets(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newKey(t testing.TB) *device.Key {
	t.Helper()
	k, err := device.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addKey(t testing.TB, c *control.Service, name string, maxDevices int, expires time.Time) control.AccessKey {
	t.Helper()
	k, err := c.AddKey(t.Context(), control.AccessKey{Name: name, MaxDevices: maxDevices, Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func enrol(t testing.TB, c *control.Service, key control.AccessKey, k *device.Key) []byte {
	t.Helper()
	certificate, err := c.Enrol(t.Context(), key.ID, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}
