package storetest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

func testKeys(t *testing.T, db Database) {
	s := db(t)
	if got := allKeys(t, s); len(got) != 0 {
		t.Fatalf("an empty database has keys %v", got)
	}
	never := key(1, "zoe")
	dated := control.AccessKey{ID: keyID(2), Name: "anna", MaxDevices: 100_000, Limit: control.MaxLimit,
		Expires: time.Date(2027, 5, 6, 7, 8, 9, 0, time.UTC)}
	insertKeys(t, s, never, dated)
	for _, handle := range []control.Store{s, db(t)} {
		same(t, "keys, by name", allKeys(t, handle), []control.AccessKey{dated, never})
		mustView(t, handle, func(ctx context.Context, r control.Reader) error {
			for _, want := range []control.AccessKey{never, dated} {
				got, err := r.Key(ctx, want.ID)
				if err != nil || got != want {
					t.Errorf("key %x is %v, %v; want %v", want.ID, got, err, want)
				}
				got, err = r.KeyNamed(ctx, want.Name)
				if err != nil || got != want {
					t.Errorf("key %q is %v, %v; want %v", want.Name, got, err, want)
				}
			}
			_, err := r.Key(ctx, keyID(9))
			wantError(t, "unknown id", err, control.ErrKeyUnknown)
			for _, name := range []string{"ann", "Anna", "anna ", "", "%", "_nna"} {
				_, err = r.KeyNamed(ctx, name)
				wantError(t, "unknown name "+name, err, control.ErrKeyUnknown)
			}
			return nil
		})
	}
}

func testKeyNames(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"))
	err := update(t, s, func(ctx context.Context, w control.Writer) error { return w.InsertKey(ctx, key(2, "anna")) })
	wantError(t, "the name of a live key", err, control.ErrNameTaken)
	err = update(t, s, func(ctx context.Context, w control.Writer) error { return w.InsertKey(ctx, key(1, "otto")) })
	if err == nil {
		t.Error("an id was used twice")
	}
	mustUpdate(t, s, func(ctx context.Context, w control.Writer) error { return w.RevokeKey(ctx, keyID(1)) })
	insertKeys(t, s, key(2, "anna"))
	mustView(t, s, func(ctx context.Context, r control.Reader) error {
		got, err := r.KeyNamed(ctx, "anna")
		if err != nil || got.ID != keyID(2) {
			t.Errorf("anna is %v, %v; want the live key", got, err)
		}
		return nil
	})
}

func testRevokedKeysStay(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"), key(2, "otto"))
	for range 2 { // it may be said twice
		mustUpdate(t, s, func(ctx context.Context, w control.Writer) error { return w.RevokeKey(ctx, keyID(1)) })
	}
	gone := key(1, "anna")
	gone.Revoked = true
	same(t, "keys", allKeys(t, s), []control.AccessKey{gone, key(2, "otto")})
	mustView(t, s, func(ctx context.Context, r control.Reader) error {
		if got, err := r.KeyNamed(ctx, "anna"); err != nil || got != gone {
			t.Errorf("anna is %v, %v; want the revoked key, as there is no other", got, err)
		}
		return nil
	})
	err := update(t, s, func(ctx context.Context, w control.Writer) error { return w.RevokeKey(ctx, keyID(9)) })
	wantError(t, "unknown key", err, control.ErrKeyUnknown)
}

func testDevices(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"), key(2, "otto"))
	a := control.Device{ID: deviceID(1, 1), KeyID: keyID(1), Expires: someDay}
	b := control.Device{ID: deviceID(2, 1), KeyID: keyID(1), Expires: someDay, Revoked: true}
	c := control.Device{ID: deviceID(3, 1), KeyID: keyID(2), Expires: someDay.AddDate(0, 0, 1)}
	putDevices(t, s, c, b, a)
	same(t, "devices, by id", devices(t, db(t), control.DeviceFilter{}), []control.Device{a, b, c})
	mustView(t, s, func(ctx context.Context, r control.Reader) error {
		if got, err := r.Device(ctx, a.ID); err != nil || got != a {
			t.Errorf("device is %v, %v; want %v", got, err, a)
		}
		_, err := r.Device(ctx, deviceID(9, 9))
		wantError(t, "unknown device", err, control.ErrDeviceUnknown)
		for id, want := range map[[8]byte]int{keyID(1): 1, keyID(2): 1, keyID(3): 0} {
			if n, err := r.CountDevices(ctx, id); err != nil || n != want {
				t.Errorf("key %x has %d devices, %v; want %d that are not revoked", id, n, err, want)
			}
		}
		return nil
	})
	a.KeyID, a.Expires = keyID(2), someDay.AddDate(0, 1, 0)
	c.Revoked = true
	putDevices(t, s, a, c)
	same(t, "devices after a move and a revocation", devices(t, s, control.DeviceFilter{}), []control.Device{a, b, c})
}

func testDeviceFilter(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"), key(2, "otto"))
	a := control.Device{ID: deviceID(0xab, 1), KeyID: keyID(1), Expires: someDay}
	b := control.Device{ID: deviceID(0xab, 2), KeyID: keyID(2), Expires: someDay, Revoked: true}
	c := control.Device{ID: deviceID(0xac, 1), KeyID: keyID(1), Expires: someDay, Revoked: true}
	putDevices(t, s, a, b, c)
	for _, tc := range []struct {
		filter control.DeviceFilter
		want   []control.Device
	}{
		{control.DeviceFilter{}, []control.Device{a, b, c}},
		{control.DeviceFilter{KeyID: keyID(1)}, []control.Device{a, c}},
		{control.DeviceFilter{KeyID: keyID(9)}, nil},
		{control.DeviceFilter{Revoked: true}, []control.Device{b, c}},
		{control.DeviceFilter{Prefix: "a"}, []control.Device{a, b, c}},
		{control.DeviceFilter{Prefix: "ab"}, []control.Device{a, b}},
		{control.DeviceFilter{Prefix: "b"}, nil},
		{control.DeviceFilter{Prefix: a.ID.String()}, []control.Device{a}},
		{control.DeviceFilter{Prefix: a.ID.String() + "0"}, nil},
		{control.DeviceFilter{Prefix: "%"}, nil},
		{control.DeviceFilter{Prefix: "_b"}, nil},
		{control.DeviceFilter{KeyID: keyID(1), Prefix: "ab", Revoked: true}, nil},
		{control.DeviceFilter{KeyID: keyID(1), Prefix: "ac", Revoked: true}, []control.Device{c}},
	} {
		same(t, "devices", devices(t, s, tc.filter), tc.want)
		if t.Failed() {
			t.Fatalf("filter %+v", tc.filter)
		}
	}
}

func testDeleteDevices(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"))
	before := control.Device{ID: deviceID(1, 1), KeyID: keyID(1), Expires: someDay.AddDate(0, 0, -1)}
	revoked := control.Device{ID: deviceID(2, 1), KeyID: keyID(1), Expires: someDay.AddDate(0, 0, -9), Revoked: true}
	at := control.Device{ID: deviceID(3, 1), KeyID: keyID(1), Expires: someDay}
	putDevices(t, s, before, revoked, at)
	for _, want := range []int{1, 0} {
		mustUpdate(t, s, func(ctx context.Context, w control.Writer) error {
			n, err := w.DeleteDevices(ctx, someDay)
			if n != want {
				t.Errorf("forgot %d devices, want %d", n, want)
			}
			return err
		})
	}
	same(t, "devices", devices(t, s, control.DeviceFilter{}), []control.Device{revoked, at})
}

func testDeviceNeedsItsKey(t *testing.T, db Database) {
	s := db(t)
	err := update(t, s, func(ctx context.Context, w control.Writer) error {
		return w.PutDevice(ctx, control.Device{ID: deviceID(1, 1), KeyID: keyID(1), Expires: someDay})
	})
	if err == nil {
		t.Error("a device was put under an access key that does not exist")
	}
	same(t, "devices", devices(t, s, control.DeviceFilter{}), nil)
}

// Names are what an operator types, in any script, and ids any bytes.
func testOddText(t *testing.T, db Database) {
	s := db(t)
	names := []string{"'; DROP TABLE device; --", "$1", `"quoted"`, "کلید مادر", "妈妈的手机", "🦆", strings.Repeat("é", 64)}
	var want []control.AccessKey
	for i, name := range names {
		k := key(byte(i), name)
		if i == 0 {
			k.ID = [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		}
		want = append(want, k)
	}
	insertKeys(t, s, want...)
	got := allKeys(t, db(t))
	order := func(a, b control.AccessKey) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	same(t, "keys", got, want)
	full := device.ID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	d := control.Device{ID: full, KeyID: want[0].ID, Expires: someDay}
	putDevices(t, s, d)
	same(t, "devices", devices(t, s, control.DeviceFilter{KeyID: want[0].ID}), []control.Device{d})
}
