package client_test

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

// A certificate of more than two days is renewed while the client works, and so is one that has ended. Neither takes
// another place.
func TestRenews(t *testing.T) {
	for _, c := range []struct {
		name string
		age  time.Duration
	}{{"after three days", 3 * 24 * time.Hour}, {"after eight days", 8 * 24 * time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.run(t)
			cfg := client.Config{Key: w.oneDevice(t), StateDir: filepath.Join(t.TempDir(), "state")}
			t.Run("enrol", func(t *testing.T) {
				c, _ := start(t, cfg)
				ready(t, c)
			})
			path := filepath.Join(cfg.StateDir, "device.cert")
			old := w.age(t, path, c.age)
			again, _ := start(t, cfg)
			ready(t, again)
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				b := read(t, path)
				cert, err := device.ParseCertificate(b)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b, old) && time.Since(cert.Issued) < time.Minute {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the certificate is still that of %v", cert.Issued)
				}
			}
			// The certificate comes with the link's WELCOME, a moment before the link counts as opened.
			until(t, "renewed", again, func(st client.Status) bool { return st.State == client.Connected })
		})
	}
}

const certKind = "godwit device certificate v1"

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := secretfile.Read(path, certKind, device.CertificateSize)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// age makes the certificate in a file one that control signed d ago.
func (w *world) age(t *testing.T, path string, d time.Duration) []byte {
	t.Helper()
	seed, err := secretfile.Read(filepath.Join(w.dir.Path, "keys", "control.key"), "godwit control key v1", ed25519.SeedSize)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := device.ParseCertificate(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	cert.Issued, cert.NotBefore, cert.NotAfter = cert.Issued.Add(-d), cert.NotBefore.Add(-d), cert.NotAfter.Add(-d)
	b, err := cert.Sign(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := secretfile.Write(path, certKind, b); err != nil {
		t.Fatal(err)
	}
	return b
}
