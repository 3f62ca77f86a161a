// Package storetest is the suite that every store behind control must pass: the contract of control.Store, and
// control's own promises kept on it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

// Database opens one more handle on one and the same database, as another process would. The handle is closed when the
// test ends.
type Database func(t testing.TB) control.Store

// Run runs the suite. newDatabase makes an empty database each time it is called.
func Run(t *testing.T, newDatabase func(t testing.TB) Database) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Database)
	}{
		{"Keys", testKeys},
		{"KeyNames", testKeyNames},
		{"RevokedKeysStay", testRevokedKeysStay},
		{"Devices", testDevices},
		{"DeviceFilter", testDeviceFilter},
		{"DeleteDevices", testDeleteDevices},
		{"DeviceNeedsItsKey", testDeviceNeedsItsKey},
		{"Traffic", testTraffic},
		{"TrafficOfForgottenDevices", testTrafficOfForgotten},
		{"TrafficIsExact", testTrafficIsExact},
		{"ManyKinds", testOddText},
		{"Rollback", testRollback},
		{"PanicFreesTheStore", testPanic},
		{"ViewIsOneState", testViewIsOneState},
		{"UpdatesAreSerial", testUpdatesAreSerial},
		{"WaitingEndsWithContext", testContext},
		{"Changes", testChanges},
		{"EnrolExactlyAsManyAsAllowed", testEnrolRace},
		{"EnrolAgainTakesNoPlace", testEnrolAgain},
		{"RevocationCrossesHandles", testRevocationCrossesHandles},
		{"LimitCrossesHandles", testLimitCrossesHandles},
		{"ForgottenDevicesGiveNothingBack", testForgottenGiveNothingBack},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newDatabase(t))
		})
	}
}

var someDay = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

func keyID(n byte) [8]byte { return [8]byte{0xa0, 0, 0, 0, 0, 0, 0, n} }

func deviceID(first, last byte) device.ID {
	var id device.ID
	id[0], id[15] = first, last
	return id
}

func key(n byte, name string) control.AccessKey {
	return control.AccessKey{ID: keyID(n), Name: name, MaxDevices: 3}
}

func update(t testing.TB, s control.Store, fn func(ctx context.Context, w control.Writer) error) error {
	t.Helper()
	return s.Update(t.Context(), func(w control.Writer) error { return fn(t.Context(), w) })
}

func mustUpdate(t testing.TB, s control.Store, fn func(ctx context.Context, w control.Writer) error) {
	t.Helper()
	if err := update(t, s, fn); err != nil {
		t.Fatal(err)
	}
}

func mustView(t testing.TB, s control.Store, fn func(ctx context.Context, r control.Reader) error) {
	t.Helper()
	if err := s.View(t.Context(), func(r control.Reader) error { return fn(t.Context(), r) }); err != nil {
		t.Fatal(err)
	}
}

func insertKeys(t testing.TB, s control.Store, keys ...control.AccessKey) {
	t.Helper()
	mustUpdate(t, s, func(ctx context.Context, w control.Writer) error {
		for _, k := range keys {
			if err := w.InsertKey(ctx, k); err != nil {
				return err
			}
		}
		return nil
	})
}

func putDevices(t testing.TB, s control.Store, devices ...control.Device) {
	t.Helper()
	mustUpdate(t, s, func(ctx context.Context, w control.Writer) error {
		for _, d := range devices {
			if err := w.PutDevice(ctx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func allKeys(t testing.TB, s control.Store) (keys []control.AccessKey) {
	t.Helper()
	mustView(t, s, func(ctx context.Context, r control.Reader) (err error) {
		keys, err = r.Keys(ctx)
		return err
	})
	return keys
}

func devices(t testing.TB, s control.Store, f control.DeviceFilter) (found []control.Device) {
	t.Helper()
	mustView(t, s, func(ctx context.Context, r control.Reader) (err error) {
		found, err = r.Devices(ctx, f)
		return err
	})
	return found
}

// same compares rows; times are in UTC on both sides, so that == holds for equal ones.
func same[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	equal := len(got) == len(want)
	for i := 0; equal && i < len(got); i++ {
		equal = got[i] == want[i]
	}
	if !equal {
		t.Errorf("%s:\n got %s\nwant %s", what, lines(got), lines(want))
	}
}

func lines[T any](rows []T) (s string) {
	for _, r := range rows {
		s += fmt.Sprintf("\n\t%v", r)
	}
	return s
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}
