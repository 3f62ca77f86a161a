package control_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/store"
)

func TestMonth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at   string
		want control.Month
		end  string
	}{
		{"2027-03-01T00:00:00Z", 202703, "2027-04-01T00:00:00Z"},
		{"2027-12-31T23:59:59Z", 202712, "2028-01-01T00:00:00Z"},
		{"2028-01-01T00:30:00+01:00", 202712, "2028-01-01T00:00:00Z"}, // there it is January already
		{"2028-02-29T12:00:00Z", 202802, "2028-03-01T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if m := control.MonthOf(at); m != tt.want || m.End().Format(time.RFC3339) != tt.end {
			t.Errorf("%s is in %d, which ends %v", tt.at, m, m.End())
		}
	}
}

func TestAddKeyRefusesLimits(t *testing.T) {
	t.Parallel()
	c := setup(t)
	for _, limit := range []int64{-1, control.MaxLimit + 1} {
		_, err := c.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 1, Limit: limit})
		wantError(t, "add", err, control.ErrBadLimit)
	}
	want, err := c.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 1, Limit: control.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.KeyByName(t.Context(), "anna"); err != nil || got != want || got.Limit != control.MaxLimit {
		t.Errorf("the key is %+v, %v; want %+v", got, err, want)
	}
}

// The month's end lets in again who used the last one up, and they can use up the next.
func TestLimitOfEachMonth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := setup(t)
		key, err := c.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 1, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		k := newKey(t)
		certificate := enrol(t, c, key, k)
		cut := 0 // only the goroutine that adds or runs writes it
		c.OnRevoked(func(devices []device.ID, keys [][8]byte) {
			if len(devices) != 0 || !slices.Equal(keys, [][8]byte{key.ID}) {
				t.Errorf("cut are %v and %x", devices, keys)
			}
			cut++
		})
		add := func(n int64, cuts int) {
			t.Helper()
			if err := c.AddTraffic(t.Context(), []control.Traffic{{KeyID: key.ID, Device: k.ID(), Bytes: n}}); err != nil {
				t.Fatal(err)
			}
			if cut != cuts {
				t.Errorf("cut %d times, want %d", cut, cuts)
			}
		}
		end := control.MonthOf(time.Now()).End()
		time.Sleep(time.Until(end) - 10*time.Second)
		if certificate, err = c.Renew(t.Context(), certificate); err != nil {
			t.Fatal(err)
		}
		add(999, 0)
		mustAuthorize(t, c, certificate)
		add(1, 1)
		_, err = c.Authorize(certificate, time.Now())
		wantError(t, "authorize", err, control.ErrQuota)
		_, err = c.Renew(t.Context(), certificate)
		wantError(t, "renew", err, control.ErrQuota)
		add(1, 1) // what still flowed is counted, and said once

		time.Sleep(10 * time.Second) // nobody looked at the store meanwhile: the month is over all the same
		mustAuthorize(t, c, certificate)
		if totals, err := c.Totals(t.Context(), time.Now()); err != nil || len(totals.Keys) != 0 {
			t.Errorf("the new month begins with %+v, %v", totals, err)
		}
		add(1000, 2)
		_, err = c.Authorize(certificate, time.Now())
		wantError(t, "authorize in the new month", err, control.ErrQuota)

		// With a clock that is turned back to last month, last month's limit is not known, and not guessed.
		if err := c.Check(k.ID(), key.ID, end.Add(-time.Second)); err != nil {
			t.Errorf("check: %v", err)
		}
		totals, err := c.Totals(t.Context(), end.Add(-time.Second))
		if err != nil || totals.Keys[key.ID] != 1001 || totals.Devices[k.ID()] != 1001 {
			t.Errorf("last month's totals are %+v, %v", totals, err)
		}
	})
}

// Run forgets all months but this one and the last, and a key that expires while it is used up is dead for good.
func TestOldMonthsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "godwit.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c, err := control.New(t.Context(), control.Config{Store: s, Secrets: initSecrets(t, dir)})
		if err != nil {
			t.Fatal(err)
		}
		key, err := c.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 1, Limit: 1,
			Expires: time.Now().AddDate(0, 1, 2)})
		if err != nil {
			t.Fatal(err)
		}
		k := newKey(t)
		enrol(t, c, key, k)
		sums := func() (n []int64) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			wantError(t, "run", c.Run(ctx), context.DeadlineExceeded)
			begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where synctest's clock begins
			for month := range 3 {
				totals, err := c.Totals(t.Context(), begin.AddDate(0, month, 0))
				if err != nil {
					t.Fatal(err)
				}
				n = append(n, totals.Keys[key.ID])
			}
			return n
		}
		for month, want := range [][]int64{{5, 0, 0}, {5, 6, 0}, {0, 6, 7}} {
			carried := []control.Traffic{{KeyID: key.ID, Device: k.ID(), Bytes: 5 + int64(month)}}
			if err := c.AddTraffic(t.Context(), carried); err != nil {
				t.Fatal(err)
			}
			if got := sums(); !slices.Equal(got, want) {
				t.Errorf("in month %d the totals are %v, want %v", month, got, want)
			}
			time.Sleep(time.Until(control.MonthOf(time.Now()).End()))
		}
		wantError(t, "check", c.Check(k.ID(), key.ID, time.Now()), control.ErrKeyExpired)
	})
}

// A store that fails keeps nothing of what it was given, and nobody is refused because of it.
func TestAddTrafficFails(t *testing.T) {
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
	key, err := c.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 1, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	certificate := enrol(t, c, key, newKey(t))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err = c.AddTraffic(t.Context(), []control.Traffic{{KeyID: key.ID, Bytes: 2000}})
	wantError(t, "add", err, store.ErrClosed)
	mustAuthorize(t, c, certificate)
}
