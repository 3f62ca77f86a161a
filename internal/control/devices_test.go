package control_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

func TestEnrolGivesACertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, secrets := serviceIn(t, dir), initSecrets(t, dir)
	key, k := addKey(t, c, "anna", 1, time.Time{}), newKey(t)
	before := time.Now().Truncate(time.Second)
	b := enrol(t, c, key, k)
	certificate, err := device.ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := certificate.Verify(secrets.ControlKey(), time.Now()); err != nil {
		t.Error(err)
	}
	if certificate.Network != secrets.Network() || certificate.AccessKey != key.ID || certificate.ID() != k.ID() {
		t.Errorf("certificate is %+v", certificate)
	}
	if life := certificate.NotAfter.Sub(certificate.Issued); life != device.Lifetime {
		t.Errorf("it counts for %v, want %v", life, device.Lifetime)
	}
	if certificate.Issued.Before(before) || certificate.Issued.After(time.Now()) {
		t.Errorf("it was issued at %v, want now", certificate.Issued)
	}
	g, err := c.Authorize(b, time.Now())
	if err != nil || g.Device != k.ID() || g.KeyID != key.ID || !bytes.Equal(g.Public, k.Public()) ||
		!g.Until.Equal(certificate.NotAfter) || !g.RenewAt.Equal(certificate.Issued.Add(device.RenewAfter)) {
		t.Errorf("grant is %+v, %v", g, err)
	}
	devices, err := c.Devices(t.Context(), control.DeviceFilter{})
	if err != nil || len(devices) != 1 || devices[0].ID != k.ID() || devices[0].KeyID != key.ID || devices[0].Revoked {
		t.Fatalf("devices are %+v, %v", devices, err)
	}
	// The row says the day, not when the device was here.
	if e := devices[0].Expires; !e.Equal(e.Truncate(24*time.Hour)) || e.Before(certificate.NotAfter) ||
		e.Sub(certificate.NotAfter) >= 24*time.Hour {
		t.Errorf("the row expires at %v, want the midnight after %v", e, certificate.NotAfter)
	}
}

func TestEnrolRefuses(t *testing.T) {
	t.Parallel()
	c := setup(t)
	key := addKey(t, c, "anna", 1, time.Time{})
	_, err := c.Enrol(t.Context(), [8]byte{1}, newKey(t).Public())
	wantError(t, "unknown key", err, control.ErrKeyUnknown)
	_, err = c.Enrol(t.Context(), key.ID, newKey(t).Public()[:31])
	wantError(t, "31 bytes", err, control.ErrBadDeviceKey)
	_, err = c.Enrol(t.Context(), key.ID, nil)
	wantError(t, "no device key", err, control.ErrBadDeviceKey)
	enrol(t, c, key, newKey(t))
	_, err = c.Enrol(t.Context(), key.ID, newKey(t).Public())
	wantError(t, "second device", err, control.ErrTooManyDevices)
	if err := c.RevokeKey(t.Context(), "anna"); err != nil {
		t.Fatal(err)
	}
	_, err = c.Enrol(t.Context(), key.ID, newKey(t).Public())
	wantError(t, "revoked key", err, control.ErrKeyRevoked)
}

func TestRevokeDevice(t *testing.T) {
	t.Parallel()
	c := setup(t)
	key := addKey(t, c, "anna", 2, time.Time{})
	k, other := newKey(t), newKey(t)
	certificate, others := enrol(t, c, key, k), enrol(t, c, key, other)
	for range 2 {
		d, err := c.RevokeDevice(t.Context(), strings.ToUpper(k.ID().String()))
		if err != nil || d.ID != k.ID() || !d.Revoked {
			t.Fatalf("revoked %+v, %v; want %v", d, err, k.ID())
		}
	}
	_, err := c.Authorize(certificate, time.Now())
	wantError(t, "authorize", err, control.ErrDeviceRevoked)
	_, err = c.Renew(t.Context(), certificate)
	wantError(t, "renew", err, control.ErrDeviceRevoked)
	_, err = c.Enrol(t.Context(), key.ID, k.Public())
	wantError(t, "enrol", err, control.ErrDeviceRevoked)
	_, err = c.Enrol(t.Context(), addKey(t, c, "otto", 1, time.Time{}).ID, k.Public())
	wantError(t, "enrol with another key", err, control.ErrDeviceRevoked)
	if _, err := c.Authorize(others, time.Now()); err != nil {
		t.Errorf("the other device: %v", err)
	}
	enrol(t, c, key, newKey(t)) // its place is free
	_, err = c.Enrol(t.Context(), key.ID, newKey(t).Public())
	wantError(t, "a place too many", err, control.ErrTooManyDevices)
}

func TestRevokeDeviceByPrefix(t *testing.T) {
	t.Parallel()
	c := setup(t)
	key := addKey(t, c, "anna", 100, time.Time{})
	byFirst := map[byte][]string{}
	for range 17 { // two of them begin with the same digit
		k := newKey(t)
		enrol(t, c, key, k)
		id := k.ID().String()
		byFirst[id[0]] = append(byFirst[id[0]], id)
	}
	var twins []string
	for _, ids := range byFirst {
		if len(ids) > 1 {
			twins = ids
		}
	}
	_, err := c.RevokeDevice(t.Context(), twins[0][:1])
	wantError(t, "ambiguous", err, control.ErrDeviceAmbiguous)
	for _, bad := range []string{"", "%", "xyz", "0 ", "ab_", twins[0] + "0"} {
		_, err := c.RevokeDevice(t.Context(), bad)
		wantError(t, bad, err, control.ErrBadDeviceID)
	}
	_, err = c.RevokeDevice(t.Context(), newKey(t).ID().String())
	wantError(t, "unknown", err, control.ErrDeviceUnknown)
	if devices, err := c.Devices(t.Context(), control.DeviceFilter{Revoked: true}); err != nil || len(devices) != 0 {
		t.Fatalf("revoked are %v, %v; want none so far", devices, err)
	}
	d, err := c.RevokeDevice(t.Context(), twins[1][:20])
	if err != nil || d.ID.String() != twins[1] {
		t.Errorf("revoked %v, %v; want %v", d.ID, err, twins[1])
	}
}

// A device holds one place, of the key it enrolled with last.
func TestDeviceMovesToAnotherKey(t *testing.T) {
	t.Parallel()
	c := setup(t)
	anna, otto := addKey(t, c, "anna", 1, time.Time{}), addKey(t, c, "otto", 1, time.Time{})
	k := newKey(t)
	annas := enrol(t, c, anna, k)
	enrol(t, c, otto, k)
	devices, err := c.Devices(t.Context(), control.DeviceFilter{KeyID: otto.ID})
	if err != nil || len(devices) != 1 || devices[0].ID != k.ID() {
		t.Errorf("otto's devices are %v, %v; want the one that moved", devices, err)
	}
	_, err = c.Enrol(t.Context(), otto.ID, newKey(t).Public())
	wantError(t, "where it moved to", err, control.ErrTooManyDevices)
	enrol(t, c, anna, newKey(t))
	_, err = c.Renew(t.Context(), annas)
	wantError(t, "back to a place that is taken", err, control.ErrTooManyDevices)
}
