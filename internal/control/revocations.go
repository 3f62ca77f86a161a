package control

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/internal/device"
)

const (
	// pollEvery leaves room for a slow machine within the second in which a revocation takes effect.
	pollEvery = 250 * time.Millisecond
	// forgetEvery is how often Run looks for devices to forget.
	forgetEvery = time.Hour
)

// Grant is what a device may do, as its certificate says.
type Grant struct {
	Device device.ID
	Public ed25519.PublicKey
	KeyID  [8]byte
	// Until is when the session's authority ends unless the certificate has been renewed.
	Until time.Time
	// RenewAt is when the device should renew.
	RenewAt time.Time
}

// revocations is everything that needs to be known to refuse a device offline. Immutable.
type revocations struct {
	devices map[device.ID]struct{}
	// keys has those that are revoked, expire one day, or have a limit.
	keys map[[8]byte]AccessKey
	// carried is what counts against limits: each key's total of one month.
	month   Month
	carried map[[8]byte]int64
}

// dead is who is refused at one moment.
type dead struct {
	devices map[device.ID]struct{}
	keys    map[[8]byte]struct{}
	// next is when this changes by itself: the next key expires, or a new month begins. Zero means never.
	next time.Time
}

// Authorize says, without asking the store, what the holder of certificate may do now. The caller has checked, or will
// check, that the peer holds the key Grant names.
//
// With an error that matches device.ErrExpired or device.ErrNotYetValid the Grant is filled in as well: control did
// sign the certificate and nobody revoked it, so the device may be let in to renew it and for nothing else.
//
// A revocation that arrives between Authorize and the moment at which a listener (OnRevoked) would find the session is
// missed by both: register the session first, then ask Check.
func (s *Service) Authorize(certificate []byte, now time.Time) (Grant, error) {
	c, err := s.genuine(certificate, now)
	if c == nil {
		return Grant{}, fmt.Errorf("authorize: %w", err)
	}
	g := Grant{
		Device:  c.ID(),
		Public:  c.Device[:],
		KeyID:   c.AccessKey,
		Until:   c.NotAfter,
		RenewAt: c.RenewAt(),
	}
	if err := s.Check(g.Device, g.KeyID, now); err != nil {
		return Grant{}, fmt.Errorf("authorize: %w", err)
	}
	if err != nil {
		return g, fmt.Errorf("authorize: %w", err)
	}
	return g, nil
}

// Check says whether the device, or the access key it came in with, is refused now: ErrDeviceRevoked, ErrKeyRevoked,
// ErrKeyExpired, ErrQuota or nil. It does not ask the store.
func (s *Service) Check(id device.ID, keyID [8]byte, now time.Time) error {
	r := s.revoked.Load()
	if err := r.refusal(keyID, now); err != nil {
		return err
	}
	if _, ok := r.devices[id]; ok {
		return ErrDeviceRevoked
	}
	return nil
}

// refusal says why nobody may use the access key at this time.
func (r *revocations) refusal(keyID [8]byte, now time.Time) error {
	key, ok := r.keys[keyID]
	if !ok {
		return nil
	}
	if err := key.usable(now); err != nil {
		return err
	}
	if key.Limit > 0 && r.carried[keyID] >= key.Limit && r.month == MonthOf(now) {
		return ErrQuota
	}
	return nil
}

// genuine parses a certificate and returns it only if this network's control signed it; the error may still say that it
// is not for this time.
func (s *Service) genuine(certificate []byte, now time.Time) (*device.Certificate, error) {
	c, err := device.ParseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	if c.Network != s.secrets.network {
		return nil, ErrOtherNetwork
	}
	err = c.Verify(s.secrets.control.Public().(ed25519.PublicKey), now)
	if err == nil || errors.Is(err, device.ErrExpired) || errors.Is(err, device.ErrNotYetValid) {
		return c, err
	}
	return nil, err
}

// OnRevoked adds a listener for devices and access keys that are refused from now on, so that live sessions of theirs
// can be cut: one's own revocations before the revoking call returns, another process's and expiries within pollEvery
// of Run. An access key whose limit is reached is among them, and may be so again in another month. A listener must not
// block and must not call the Service's changing methods. Add listeners before Run.
func (s *Service) OnRevoked(listener func(devices []device.ID, keys [][8]byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, listener)
}

// Run keeps the revocations fresh and forgets long-expired devices and old months, until ctx is done; it returns ctx's
// error. While the store cannot be read, what was known stays in force.
func (s *Service) Run(ctx context.Context) error {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	s.forget(ctx)
	healthy := true
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-forget.C:
			s.forget(ctx)
		case <-poll.C:
			err := s.refresh(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// Said once, not four times a second.
			if err != nil && healthy {
				s.log.Error("revocations cannot be read; those known so far stay in force", "error", err)
			} else if err == nil && !healthy {
				s.log.Info("revocations can be read again")
			}
			healthy = err == nil
		}
	}
}

// forget drops devices whose certificate ended long ago, and totals of months before the last one. A forgotten device
// can come back if there is a place for it.
func (s *Service) forget(ctx context.Context) {
	now := time.Now()
	err := s.store.Update(ctx, func(w Writer) error {
		if _, err := w.DeleteDevices(ctx, now.Add(-forgetAfter)); err != nil {
			return err
		}
		return w.DeleteTraffic(ctx, MonthOf(now).before())
	})
	if err != nil && ctx.Err() == nil {
		s.log.Error("long-expired devices and old months' totals cannot be forgotten", "error", err)
	}
}

// refreshSoon makes a revocation that has just been stored count at once in this process. If the store fails now, Run
// will see it later.
func (s *Service) refreshSoon(ctx context.Context) {
	if err := s.refresh(context.WithoutCancel(ctx)); err != nil {
		s.log.Error("revocations cannot be read; those known so far stay in force", "error", err)
	}
}

// refresh reloads the revocations if the store has changed, and tells the listeners who is refused since the last time.
func (s *Service) refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The counter first: a change between the two is loaded now and once more next time, never missed.
	changes, err := s.store.Changes(ctx)
	if err != nil {
		return err
	}
	r := s.revoked.Load()
	now := time.Now().Round(0) // by the wall clock, like expiry itself
	turnedBack := now.Before(s.checked)
	s.checked = now
	if r != nil && (turnedBack || !s.announced.next.IsZero() && !now.Before(s.announced.next)) {
		// Also if it is about to be loaded anew: a key that used up both months is announced for each.
		s.announceLocked(r.deadAt(now))
	}
	if r != nil && changes == s.changes {
		return nil
	}
	if r, err = load(ctx, s.store, MonthOf(now)); err != nil {
		return err
	}
	s.revoked.Store(r)
	s.changes = changes
	s.announceLocked(r.deadAt(now))
	return nil
}

func (s *Service) announceLocked(d *dead) {
	before := s.announced
	s.announced = d
	if before == nil {
		return // nobody can have had a session yet
	}
	var devices []device.ID
	for id := range d.devices {
		if _, known := before.devices[id]; !known {
			devices = append(devices, id)
		}
	}
	var keys [][8]byte
	for id := range d.keys {
		if _, known := before.keys[id]; !known {
			keys = append(keys, id)
		}
	}
	if len(devices)+len(keys) == 0 {
		return
	}
	for _, listener := range s.listeners {
		listener(devices, keys)
	}
}

func load(ctx context.Context, store Store, month Month) (*revocations, error) {
	var keys []AccessKey
	var devices []Device
	var traffic []Traffic
	err := store.View(ctx, func(r Reader) (err error) {
		if keys, err = r.Keys(ctx); err != nil {
			return err
		}
		if devices, err = r.Devices(ctx, DeviceFilter{Revoked: true}); err != nil {
			return err
		}
		if slices.ContainsFunc(keys, func(k AccessKey) bool { return k.Limit > 0 && !k.Revoked }) {
			traffic, err = r.Traffic(ctx, month)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	r := &revocations{devices: map[device.ID]struct{}{}, keys: map[[8]byte]AccessKey{},
		month: month, carried: byKey(traffic)}
	for _, k := range keys {
		if k.Revoked || !k.Expires.IsZero() || k.Limit > 0 {
			r.keys[k.ID] = k
		}
	}
	for _, d := range devices {
		r.devices[d.ID] = struct{}{}
	}
	return r, nil
}

func (r *revocations) deadAt(now time.Time) *dead {
	d := &dead{devices: r.devices, keys: map[[8]byte]struct{}{}}
	for id, k := range r.keys {
		err := r.refusal(id, now)
		if err != nil {
			d.keys[id] = struct{}{}
		}
		var change time.Time
		switch {
		case errors.Is(err, ErrQuota):
			change = r.month.End()
		case err == nil:
			change = k.Expires
		}
		if !change.IsZero() && (d.next.IsZero() || change.Before(d.next)) {
			d.next = change
		}
	}
	return d
}
