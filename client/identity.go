package client

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

// identity is the device's key and, once enrolled, its certificate.
type identity struct {
	dir string // empty: in memory only
	key *device.Key

	mu    sync.Mutex
	cert  []byte
	renew time.Time // when the certificate should be renewed
	until time.Time // when it ends
}

// loadIdentity reads the device's key and certificate, making the key where there is none.
func loadIdentity(dir string) (*identity, error) {
	id := &identity{dir: dir}
	var err error
	if dir == "" {
		id.key, err = device.New(rand.Reader)
		return id, err
	}
	if err := secretfile.Dir(dir); err != nil {
		return nil, fmt.Errorf("the client's state directory: %w", err)
	}
	path := filepath.Join(dir, device.KeyFile)
	id.key, err = device.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		if id.key, err = device.New(rand.Reader); err == nil {
			err = id.key.Save(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the device's key: %w", err)
	}
	cert, err := device.LoadCertificate(filepath.Join(dir, device.CertificateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("the device's certificate: %w", err)
	default:
		if err := id.set(cert); err != nil {
			return nil, fmt.Errorf("the device's certificate %s: %w", filepath.Join(dir, device.CertificateFile), err)
		}
	}
	return id, nil
}

// set takes a certificate into use.
func (id *identity) set(cert []byte) error {
	c, err := device.ParseCertificate(cert)
	if err != nil {
		return err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.cert, id.renew, id.until = cert, c.RenewAt(), c.NotAfter
	return nil
}

// store takes a certificate into use and keeps it for the next run.
func (id *identity) store(cert []byte) error {
	if err := id.set(cert); err != nil {
		return err
	}
	if id.dir == "" {
		return nil
	}
	return device.SaveCertificate(filepath.Join(id.dir, device.CertificateFile), cert)
}

// forget drops a certificate that no gateway takes any more, so that the device enrols again.
func (id *identity) forget() {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.cert = nil
	if id.dir != "" {
		os.Remove(filepath.Join(id.dir, device.CertificateFile))
	}
}

// present returns the certificate, nil before enrolment, and whether it should be renewed.
func (id *identity) present(now time.Time) (cert []byte, renew bool) {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.cert, id.cert != nil && !now.Before(id.renew)
}
