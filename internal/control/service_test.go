package control_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/store"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "godwit.db"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := initSecrets(t, t.TempDir())
	if _, err := control.New(t.Context(), control.Config{Secrets: secrets}); err == nil {
		t.Error("it began without a store")
	}
	if _, err := control.New(t.Context(), control.Config{Store: s}); err == nil {
		t.Error("it began without secrets")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Not knowing who is revoked is no reason to let everybody in.
	_, err = control.New(t.Context(), control.Config{Store: s, Secrets: secrets})
	wantError(t, "a store that does not answer", err, store.ErrClosed)
}

func TestForeignCertificates(t *testing.T) {
	t.Parallel()
	c, other := setup(t), setup(t)
	k := newKey(t)
	theirs := enrol(t, other, addKey(t, other, "anna", 1, time.Time{}), k)
	ours := enrol(t, c, addKey(t, c, "anna", 1, time.Time{}), k)
	forged := slices.Clone(ours)
	forged[len(forged)-1] ^= 1
	// Signed by somebody else, in our network's name.
	posing, err := device.ParseCertificate(ours)
	if err != nil {
		t.Fatal(err)
	}
	imposed, err := posing.Sign(initSecrets(t, t.TempDir()).DirectorySigner()) // any Ed25519 key but ours
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		b    []byte
		want error
	}{
		"another network's": {theirs, control.ErrOtherNetwork},
		"a bit flipped":     {forged, device.ErrBadSignature},
		"another signer":    {imposed, device.ErrBadSignature},
		"cut off":           {ours[:100], device.ErrMalformed},
		"empty":             {nil, device.ErrMalformed},
		"of the future":     {append([]byte{2}, ours[1:]...), device.ErrVersion},
	} {
		g, err := c.Authorize(tc.b, time.Now())
		wantError(t, "authorize "+what, err, tc.want)
		if g.Device != (device.ID{}) || g.Public != nil {
			t.Errorf("authorize %s: grant is %+v beside the error", what, g)
		}
		_, err = c.Renew(t.Context(), tc.b)
		wantError(t, "renew "+what, err, tc.want)
	}
}

func TestWithoutStoreKnownGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "godwit.db"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.New(t.Context(), control.Config{Store: s, Secrets: initSecrets(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	anna, otto := addKey(t, c, "anna", 1, time.Time{}), addKey(t, c, "otto", 1, time.Time{})
	annas, ottos := enrol(t, c, anna, newKey(t)), enrol(t, c, otto, newKey(t))
	if err := c.RevokeKey(t.Context(), "otto"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Authorize(annas, time.Now()); err != nil {
		t.Errorf("a good device: %v", err)
	}
	_, err = c.Authorize(ottos, time.Now())
	wantError(t, "a revoked one", err, control.ErrKeyRevoked)
	_, err = c.Renew(t.Context(), annas)
	wantError(t, "renewal", err, store.ErrClosed)
}

func TestContextEndsCalls(t *testing.T) {
	t.Parallel()
	c := setup(t)
	key := addKey(t, c, "anna", 1, time.Time{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Enrol(ctx, key.ID, newKey(t).Public())
	wantError(t, "enrol", err, context.Canceled)
	_, err = c.Keys(ctx)
	wantError(t, "keys", err, context.Canceled)
	wantError(t, "revoke", c.RevokeKey(ctx, "anna"), context.Canceled)
	enrol(t, c, key, newKey(t))
}
