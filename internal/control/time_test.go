package control_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

// These tests are about days passing: they run on synctest's clock, with the real store.

func TestRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := setup(t)
		key, k := addKey(t, c, "anna", 1, time.Time{}), newKey(t)
		first := enrol(t, c, key, k)
		time.Sleep(device.RenewAfter)
		second, err := c.Renew(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		a, b := mustAuthorize(t, c, first), mustAuthorize(t, c, second)
		if got := b.Until.Sub(a.Until); got != device.RenewAfter {
			t.Errorf("renewal adds %v, want %v", got, device.RenewAfter)
		}
		time.Sleep(device.Lifetime) // asleep for a week
		g, err := c.Authorize(second, time.Now())
		wantError(t, "expired", err, device.ErrExpired)
		if g.Device != k.ID() || g.KeyID != key.ID || !bytes.Equal(g.Public, k.Public()) {
			t.Errorf("grant is %+v, want one that allows to renew", g)
		}
		third, err := c.Renew(t.Context(), second)
		if err != nil {
			t.Fatalf("renewal after expiry: %v", err)
		}
		mustAuthorize(t, c, third)
		if devices, err := c.Devices(t.Context(), control.DeviceFilter{}); err != nil || len(devices) != 1 {
			t.Errorf("devices are %v, %v; want one", devices, err)
		}

		// A clock that was ahead when it signed must not lock a device out for ever.
		g, err = c.Authorize(third, time.Now().Add(-24*time.Hour))
		wantError(t, "a gateway whose clock is behind", err, device.ErrNotYetValid)
		if g.Device != k.ID() {
			t.Errorf("grant is %+v, want one that allows to renew", g)
		}
		if _, err := c.Authorize(third, time.Now().Add(-50*time.Minute)); err != nil {
			t.Errorf("clocks that differ a little: %v", err)
		}
	})
}

func mustAuthorize(t *testing.T, c *control.Service, certificate []byte) control.Grant {
	t.Helper()
	g, err := c.Authorize(certificate, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// run runs c until the test ends.
func run(t *testing.T, c *control.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		wantError(t, "run", <-ended, context.Canceled)
	})
}

func TestKeyExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := setup(t)
		expires := time.Now().Add(time.Minute) // not days: Run asks the store four times a second
		key, k := addKey(t, c, "anna", 2, expires), newKey(t)
		forever := addKey(t, c, "otto", 1, time.Time{})
		var mu sync.Mutex
		var heard [][8]byte
		c.OnRevoked(func(devices []device.ID, keys [][8]byte) {
			mu.Lock()
			defer mu.Unlock()
			if len(devices) != 0 {
				t.Errorf("devices %v were cut", devices)
			}
			heard = append(heard, keys...)
		})
		cut := func() [][8]byte {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(heard)
		}
		run(t, c)
		certificate := enrol(t, c, key, k)
		if g := mustAuthorize(t, c, certificate); !g.Until.Equal(expires) {
			t.Errorf("the certificate ends at %v, want the key's end %v", g.Until, expires)
		}
		time.Sleep(time.Until(expires) - time.Second)
		synctest.Wait()
		mustAuthorize(t, c, certificate)
		if got := cut(); len(got) != 0 {
			t.Errorf("%x was cut before its time", got)
		}
		time.Sleep(time.Second + 300*time.Millisecond)
		synctest.Wait()
		if got := cut(); !slices.Equal(got, [][8]byte{key.ID}) {
			t.Errorf("cut are %x, want %x once", got, key.ID)
		}
		_, err := c.Authorize(certificate, time.Now())
		wantError(t, "authorize", err, control.ErrKeyExpired)
		wantError(t, "check", c.Check(k.ID(), key.ID, time.Now()), control.ErrKeyExpired)
		_, err = c.Renew(t.Context(), certificate)
		wantError(t, "renew", err, control.ErrKeyExpired)
		_, err = c.Enrol(t.Context(), key.ID, newKey(t).Public())
		wantError(t, "enrol", err, control.ErrKeyExpired)
		mustAuthorize(t, c, enrol(t, c, forever, k))

		// Every revocation is announced once, also when others follow and the clock is long past.
		if err := c.RevokeKey(t.Context(), "otto"); err != nil {
			t.Fatal(err)
		}
		if err := c.RevokeKey(t.Context(), "anna"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := cut(); !slices.Equal(got, [][8]byte{key.ID, forever.ID}) {
			t.Errorf("cut are %x, want anna's then otto's key, each once", got)
		}
	})
}

func TestUnusedDeviceIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const month = 30 * 24 * time.Hour
		c := setup(t)
		key, idle, stolen, busy := addKey(t, c, "anna", 2, time.Time{}), newKey(t), newKey(t), newKey(t)
		idles, stolens := enrol(t, c, key, idle), enrol(t, c, key, stolen)
		if _, err := c.RevokeDevice(t.Context(), stolen.ID().String()); err != nil {
			t.Fatal(err)
		}
		busys := enrol(t, c, key, busy)
		// housekeeping is what Run does now and then.
		housekeeping := func() {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			wantError(t, "run", c.Run(ctx), context.DeadlineExceeded)
		}
		begun := time.Now()
		for time.Since(begun) < device.Lifetime+month-25*time.Hour {
			time.Sleep(24 * time.Hour)
			next, err := c.Renew(t.Context(), busys)
			if err != nil {
				t.Fatal(err)
			}
			busys = next
			housekeeping()
		}
		_, err := c.Enrol(t.Context(), key.ID, newKey(t).Public())
		wantError(t, "while the idle one still has its place", err, control.ErrTooManyDevices)

		time.Sleep(49 * time.Hour) // the rest, and that of the last day, of which only the end is known
		housekeeping()
		newcomer := newKey(t)
		enrol(t, c, key, newcomer)
		_, err = c.Renew(t.Context(), idles)
		wantError(t, "the forgotten one comes back too late", err, control.ErrTooManyDevices)
		if _, err := c.RevokeDevice(t.Context(), newcomer.ID().String()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Renew(t.Context(), idles); err != nil {
			t.Errorf("the forgotten one comes back and there is a place: %v", err)
		}
		_, err = c.Renew(t.Context(), stolens)
		wantError(t, "the revoked one is never forgotten", err, control.ErrDeviceRevoked)
	})
}
