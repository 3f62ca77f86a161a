// Package control knows the network's access keys and devices: who may enrol, who has been shut out. It holds the
// rules; a Store holds the data, and what is not needed is not in it.
//
// An access key lets its holder enrol MaxDevices devices. An enrolled device has a certificate with which every gateway
// knows it offline, for at most device.Lifetime; it is renewed as long as the device and its access key are good:
//
//	            Enrol                      Renew, any number of times
//	no device ────────▶ enrolled ─────────▶ enrolled ── not renewed for 30 days ──▶ forgotten (may enrol or renew again)
//	                        │
//	                        └── RevokeDevice ──▶ revoked, for good: this device key is refused under any access key
//
// A device holds one place of its access key until it is revoked or forgotten, and always of one key only: enrolling
// with another key moves it. Revoking a device thus frees its place, and whoever holds the access key can enrol another
// device there: to shut out a person, revoke the key.
//
// An access key may have a monthly limit on what its devices carry. Gateways add up what was carried; a key that has
// reached its limit is refused like an expired one, until the next month begins in UTC.
//
// What is on disk: what the operator typed, random ids, the day on which each certificate ends, and each device's total
// of bytes in this month and the one before.
package control

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/godwit-vpn/godwit/internal/device"
)

const (
	// MaxName is the longest name of an access key, in characters.
	MaxName = 64
	// MaxDevicesLimit is the most devices an access key can allow: a whole company, but not a typing error.
	MaxDevicesLimit = 100_000

	// backdate is how far the clocks of control and of a gateway may differ before a fresh certificate is refused.
	backdate = time.Hour
	// forgetAfter is how long after its certificate's end a device is forgotten and its place is free.
	forgetAfter = 30 * day

	day = 24 * time.Hour
)

// Config is what a Service needs.
type Config struct {
	Store   Store
	Secrets *Secrets
	// Log is told when the store cannot be read, never who did what. Nil logs nothing.
	Log *slog.Logger
}

// Service is control. Safe for concurrent use.
type Service struct {
	store   Store
	secrets *Secrets
	log     *slog.Logger

	revoked atomic.Pointer[revocations]

	// mu makes reloading and announcing one step, so that listeners hear of revocations in their order.
	mu        sync.Mutex
	changes   uint64 // the store's counter before revoked was loaded
	checked   time.Time
	announced *dead
	listeners []func([]device.ID, [][8]byte)
}

// New returns a Service that already knows the revocations of this moment; Run keeps them fresh.
func New(ctx context.Context, cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("control: config has no Store")
	case cfg.Secrets == nil:
		return nil, errors.New("control: config has no Secrets")
	}
	s := &Service{store: cfg.Store, secrets: cfg.Secrets, log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.refresh(ctx); err != nil {
		return nil, fmt.Errorf("control: read the revocations: %w", err)
	}
	return s, nil
}

// AddKey makes an access key with the name, number of devices, expiry and limit of key, and returns it with the rest.
func (s *Service) AddKey(ctx context.Context, key AccessKey) (AccessKey, error) {
	if err := checkName(key.Name); err != nil {
		return AccessKey{}, err
	}
	if key.MaxDevices < 1 || key.MaxDevices > MaxDevicesLimit {
		return AccessKey{}, fmt.Errorf("max devices %d: %w: give one from 1 to %d",
			key.MaxDevices, ErrBadMaxDevices, MaxDevicesLimit)
	}
	if key.Limit < 0 || key.Limit > MaxLimit {
		return AccessKey{}, fmt.Errorf("limit of %d bytes: %w: give one up to %d, or 0 for none",
			key.Limit, ErrBadLimit, int64(MaxLimit))
	}
	key.ID, key.Revoked = [8]byte{}, false
	if !key.Expires.IsZero() {
		key.Expires = key.Expires.UTC().Truncate(time.Second)
		if now := time.Now(); !now.Before(key.Expires) {
			return AccessKey{}, fmt.Errorf("expires %s: %w: it is %s already, give a later one",
				key.Expires.Format(time.RFC3339), ErrBadExpiry, now.UTC().Format(time.RFC3339))
		}
		if key.Expires.Year() > 9999 {
			return AccessKey{}, fmt.Errorf("expires in year %d: %w: give an earlier one, or none for never",
				key.Expires.Year(), ErrBadExpiry)
		}
	}
	for key.ID == ([8]byte{}) {
		rand.Read(key.ID[:]) // never fails
	}
	err := s.store.Update(ctx, func(w Writer) error { return w.InsertKey(ctx, key) })
	if err != nil {
		return AccessKey{}, fmt.Errorf("add access key %q: %w", key.Name, err)
	}
	return key, nil
}

// Keys returns all access keys, the revoked ones too, by name.
func (s *Service) Keys(ctx context.Context) ([]AccessKey, error) {
	var keys []AccessKey
	err := s.store.View(ctx, func(r Reader) (err error) {
		keys, err = r.Keys(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list access keys: %w", err)
	}
	return keys, nil
}

// KeyByName returns the access key of that name, or if there is only a revoked one, that.
func (s *Service) KeyByName(ctx context.Context, name string) (AccessKey, error) {
	var key AccessKey
	err := s.store.View(ctx, func(r Reader) (err error) {
		key, err = r.KeyNamed(ctx, name)
		return err
	})
	if err != nil {
		return AccessKey{}, fmt.Errorf("access key %q: %w", name, err)
	}
	return key, nil
}

// RevokeKey shuts out everyone who uses the access key of that name, now and for good. The name is free again
// afterwards. Revoking a revoked key changes nothing.
func (s *Service) RevokeKey(ctx context.Context, name string) error {
	err := s.store.Update(ctx, func(w Writer) error {
		key, err := w.KeyNamed(ctx, name)
		if err != nil || key.Revoked {
			return err
		}
		return w.RevokeKey(ctx, key.ID)
	})
	if err != nil {
		return fmt.Errorf("revoke access key %q: %w", name, err)
	}
	s.refreshSoon(ctx)
	return nil
}

// Devices returns the devices that filter selects, by id.
func (s *Service) Devices(ctx context.Context, filter DeviceFilter) ([]Device, error) {
	var devices []Device
	err := s.store.View(ctx, func(r Reader) (err error) {
		devices, err = r.Devices(ctx, filter)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return devices, nil
}

// RevokeDevice shuts out one device for good, by its id or by as much of its id's beginning as names one device only.
// Revoking a revoked device changes nothing.
func (s *Service) RevokeDevice(ctx context.Context, idOrPrefix string) (Device, error) {
	prefix := strings.ToLower(idOrPrefix)
	if prefix == "" || len(prefix) > 2*len(device.ID{}) || strings.Trim(prefix, "0123456789abcdef") != "" {
		return Device{}, fmt.Errorf("revoke device %q: %w", idOrPrefix, ErrBadDeviceID)
	}
	var revoked Device
	err := s.store.Update(ctx, func(w Writer) error {
		found, err := w.Devices(ctx, DeviceFilter{Prefix: prefix})
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return ErrDeviceUnknown
		case len(found) > 1:
			return ErrDeviceAmbiguous
		}
		revoked = found[0]
		revoked.Revoked = true
		if found[0].Revoked {
			return nil
		}
		return w.PutDevice(ctx, revoked)
	})
	if err != nil {
		return Device{}, fmt.Errorf("revoke device %q: %w", idOrPrefix, err)
	}
	s.refreshSoon(ctx)
	return revoked, nil
}

// Enrol takes the device in under the access key and returns its certificate. The caller has checked, on the connection
// the request came over, that the peer holds the private half of public. A device that is in already gets a certificate
// again and no second place, so an answer that was lost can be asked for again.
func (s *Service) Enrol(ctx context.Context, keyID [8]byte, public ed25519.PublicKey) ([]byte, error) {
	if len(public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("enrol: device key of %d bytes: %w", len(public), ErrBadDeviceKey)
	}
	certificate, err := s.admit(ctx, keyID, [ed25519.PublicKeySize]byte(public))
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	return certificate, nil
}

// Renew returns the next certificate of the device that holds certificate, even if that one has expired, unless the
// device or its access key has been revoked or the access key has expired. The caller has checked that the peer holds
// the device's private key. A device that had been forgotten needs a free place.
func (s *Service) Renew(ctx context.Context, certificate []byte) ([]byte, error) {
	c, err := s.genuine(certificate, time.Now())
	if c == nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	next, err := s.admit(ctx, c.AccessKey, c.Device)
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	return next, nil
}

// admit is the rule of enrolment and renewal alike: count and write in one transaction, then sign.
func (s *Service) admit(ctx context.Context, keyID [8]byte, public [ed25519.PublicKeySize]byte) ([]byte, error) {
	id := device.IDOf(public[:])
	// Known without asking the store, as gateways do: a key that is used up brings no new devices either.
	if err := s.revoked.Load().refusal(keyID, time.Now()); errors.Is(err, ErrQuota) {
		return nil, err
	}
	var c device.Certificate
	err := s.store.Update(ctx, func(w Writer) error {
		now := time.Now()
		key, err := w.Key(ctx, keyID)
		if err != nil {
			return err
		}
		if err := key.usable(now); err != nil {
			return err
		}
		known, err := w.Device(ctx, id)
		switch {
		case errors.Is(err, ErrDeviceUnknown):
		case err != nil:
			return err
		case known.Revoked:
			return ErrDeviceRevoked
		}
		if err != nil || known.KeyID != keyID {
			n, err := w.CountDevices(ctx, keyID)
			if err != nil {
				return err
			}
			if n >= key.MaxDevices {
				return ErrTooManyDevices
			}
		}
		c = device.Certificate{
			Network:   s.secrets.network,
			AccessKey: keyID,
			Device:    public,
			Issued:    now,
			NotBefore: now.Add(-backdate),
			NotAfter:  now.Add(device.Lifetime),
		}
		if !key.Expires.IsZero() && key.Expires.Before(c.NotAfter) {
			c.NotAfter = key.Expires // a gateway cut off from control ends the session in time as well
		}
		next := Device{ID: id, KeyID: keyID, Expires: endOfDay(c.NotAfter)}
		if known.ID == id && known.KeyID == keyID && known.Expires.Equal(next.Expires) {
			return nil
		}
		return w.PutDevice(ctx, next)
	})
	if err != nil {
		return nil, err
	}
	return s.secrets.signCertificate(&c)
}

// usable says why nobody may use the key at this time.
func (k *AccessKey) usable(now time.Time) error {
	switch {
	case k.Revoked:
		return ErrKeyRevoked
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return ErrKeyExpired
	}
	return nil
}

// endOfDay is the midnight, in UTC, that ends the day of t's last moment.
func endOfDay(t time.Time) time.Time {
	midnight := t.UTC().Truncate(day)
	if midnight.Before(t) {
		midnight = midnight.Add(day)
	}
	return midnight
}

// checkName accepts what an operator can see, tell apart and type again.
func checkName(name string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("access key name %q: %w: %s", name, ErrBadName, fmt.Sprintf(format, args...))
	}
	switch n := utf8.RuneCountInString(name); {
	case name == "":
		return bad("it is empty")
	case !utf8.ValidString(name):
		return bad("it is not UTF-8 text")
	case n > MaxName:
		return bad("it has %d characters, at most %d are allowed", n, MaxName)
	case strings.TrimSpace(name) != name:
		return bad("it begins or ends with a space")
	}
	for _, r := range name {
		// Some letters are blank by definition (U+3164): Unicode calls them ignorable.
		if !unicode.IsPrint(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return bad("the character %U in it cannot be seen", r)
		}
	}
	return nil
}
