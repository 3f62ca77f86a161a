package control_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
)

func TestAddKey(t *testing.T) {
	t.Parallel()
	c := setup(t)
	expires := time.Now().Add(time.Hour)
	k := addKey(t, c, "Mother's phone", 3, expires)
	if k.ID == ([8]byte{}) || k.Name != "Mother's phone" || k.MaxDevices != 3 || k.Revoked ||
		!k.Expires.Equal(expires.Truncate(time.Second)) {
		t.Errorf("key is %+v", k)
	}
	got, err := c.KeyByName(t.Context(), "Mother's phone")
	if err != nil || got != k {
		t.Errorf("by name it is %+v, %v; want %+v", got, err, k)
	}
	other := addKey(t, c, "mother's phone", control.MaxDevicesLimit, time.Time{}) // another one: case counts
	keys, err := c.Keys(t.Context())
	if err != nil || !slices.Equal(keys, []control.AccessKey{k, other}) {
		t.Errorf("keys are %+v, %v; want both", keys, err)
	}
	if k.ID == other.ID {
		t.Error("two keys have the same id")
	}
	_, err = c.AddKey(t.Context(), control.AccessKey{Name: k.Name, MaxDevices: 1})
	wantError(t, "the same name", err, control.ErrNameTaken)
	_, err = c.KeyByName(t.Context(), "father")
	wantError(t, "unknown name", err, control.ErrKeyUnknown)
	if !strings.Contains(err.Error(), `"father"`) {
		t.Errorf("error %q does not quote the name", err)
	}
}

func TestAddKeyRefuses(t *testing.T) {
	t.Parallel()
	c := setup(t)
	past, never := time.Now().Add(-time.Second), time.Time{}
	for what, tc := range map[string]struct {
		name       string
		maxDevices int
		expires    time.Time
		want       error
		says       string
	}{
		"empty":           {"", 1, never, control.ErrBadName, "empty"},
		"space alone":     {" ", 1, never, control.ErrBadName, "space"},
		"leading space":   {" anna", 1, never, control.ErrBadName, "space"},
		"trailing space":  {"anna ", 1, never, control.ErrBadName, "space"},
		"too long":        {strings.Repeat("é", 65), 1, never, control.ErrBadName, "65 characters"},
		"newline":         {"an\nna", 1, never, control.ErrBadName, "U+000A"},
		"escape":          {"an\x1b[31mna", 1, never, control.ErrBadName, "U+001B"},
		"zero":            {"an\x00na", 1, never, control.ErrBadName, "U+0000"},
		"no-break space":  {"an\u00a0na", 1, never, control.ErrBadName, "U+00A0"},
		"zero width":      {"an\u200bna", 1, never, control.ErrBadName, "U+200B"},
		"right to left":   {"an\u202ena", 1, never, control.ErrBadName, "U+202E"},
		"blank letter":    {"\u3164", 1, never, control.ErrBadName, "U+3164"},
		"variation":       {"an\ufe0fna", 1, never, control.ErrBadName, "U+FE0F"},
		"private use":     {"an\ue000na", 1, never, control.ErrBadName, "U+E000"},
		"not UTF-8":       {"an\xffna", 1, never, control.ErrBadName, "UTF-8"},
		"no devices":      {"anna", 0, never, control.ErrBadMaxDevices, "0"},
		"minus one":       {"anna", -1, never, control.ErrBadMaxDevices, "-1"},
		"a typing error":  {"anna", control.MaxDevicesLimit + 1, never, control.ErrBadMaxDevices, "100001"},
		"already expired": {"anna", 1, past, control.ErrBadExpiry, "later"},
		"year 10000":      {"anna", 1, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), control.ErrBadExpiry, "10000"},
	} {
		_, err := c.AddKey(t.Context(), control.AccessKey{Name: tc.name, MaxDevices: tc.maxDevices, Expires: tc.expires})
		wantError(t, what, err, tc.want)
		if err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %q does not say %q", what, err, tc.says)
		}
	}
	if keys, err := c.Keys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("keys are %v, %v; want none", keys, err)
	}
	for _, name := range []string{"a", strings.Repeat("é", 64), "妈妈的手机", "کلید مادر", "🦆 duck", "a-b_c.d (2)"} {
		if _, err := c.AddKey(t.Context(), control.AccessKey{Name: name, MaxDevices: 1}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRevokedKeyAndItsName(t *testing.T) {
	t.Parallel()
	c := setup(t)
	old, k := addKey(t, c, "anna", 1, time.Time{}), newKey(t)
	certificate := enrol(t, c, old, k)
	for range 2 {
		if err := c.RevokeKey(t.Context(), "anna"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Authorize(certificate, time.Now()) // at once, without Run
	wantError(t, "authorize", err, control.ErrKeyRevoked)
	_, err = c.Renew(t.Context(), certificate)
	wantError(t, "renew", err, control.ErrKeyRevoked)
	wantError(t, "unknown name", c.RevokeKey(t.Context(), "otto"), control.ErrKeyUnknown)

	// The person gets a new key under the old name, and the same device may use that.
	next := addKey(t, c, "anna", 1, time.Time{})
	if got, err := c.KeyByName(t.Context(), "anna"); err != nil || got != next {
		t.Errorf("anna is %+v, %v; want the new key", got, err)
	}
	if _, err := c.Authorize(enrol(t, c, next, k), time.Now()); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	_, err = c.Authorize(certificate, time.Now())
	wantError(t, "with the old certificate", err, control.ErrKeyRevoked)
}
