package storetest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

const march, april control.Month = 202703, 202704

func addTraffic(t testing.TB, s control.Store, m control.Month, carried ...control.Traffic) {
	t.Helper()
	mustUpdate(t, s, func(ctx context.Context, w control.Writer) error { return w.AddTraffic(ctx, m, carried) })
}

// traffic returns a month's rows in the order of access key and device.
func traffic(t testing.TB, s control.Store, m control.Month) (rows []control.Traffic) {
	t.Helper()
	mustView(t, s, func(ctx context.Context, r control.Reader) (err error) {
		rows, err = r.Traffic(ctx, m)
		return err
	})
	slices.SortFunc(rows, func(a, b control.Traffic) int {
		if c := bytes.Compare(a.KeyID[:], b.KeyID[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.Device[:], b.Device[:])
	})
	return rows
}

func testTraffic(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"), key(2, "otto"))
	a, b := deviceID(1, 1), deviceID(2, 1)
	putDevices(t, s, control.Device{ID: a, KeyID: keyID(1), Expires: someDay},
		control.Device{ID: b, KeyID: keyID(1), Expires: someDay})
	same(t, "traffic in an empty month", traffic(t, s, march), nil)
	addTraffic(t, s, march, control.Traffic{KeyID: keyID(1), Device: a, Bytes: 10},
		control.Traffic{KeyID: keyID(1), Device: b})
	addTraffic(t, s, march, control.Traffic{KeyID: keyID(1), Device: a, Bytes: 1 << 40},
		control.Traffic{KeyID: keyID(2), Device: a, Bytes: 5}, // it came in with another key
		control.Traffic{KeyID: keyID(1), Device: deviceID(9, 9), Bytes: 3},
		control.Traffic{KeyID: keyID(1), Device: deviceID(8, 8), Bytes: 4}, // nobody knows these two
		control.Traffic{KeyID: keyID(9), Device: a, Bytes: 100})            // nor this key
	addTraffic(t, s, april, control.Traffic{KeyID: keyID(1), Device: a, Bytes: 7})
	inMarch := []control.Traffic{{KeyID: keyID(1), Bytes: 7}, {KeyID: keyID(1), Device: a, Bytes: 1<<40 + 10},
		{KeyID: keyID(1), Device: b}, {KeyID: keyID(2), Device: a, Bytes: 5}}
	inApril := []control.Traffic{{KeyID: keyID(1), Device: a, Bytes: 7}}
	same(t, "traffic in March", traffic(t, db(t), march), inMarch)
	same(t, "traffic in April", traffic(t, s, april), inApril)

	// All of it or nothing: the second is no number of bytes.
	err := update(t, s, func(ctx context.Context, w control.Writer) error {
		return w.AddTraffic(ctx, march, []control.Traffic{{KeyID: keyID(1), Device: a, Bytes: 1},
			{KeyID: keyID(2), Device: b, Bytes: -1}})
	})
	if err == nil {
		t.Error("fewer than no bytes were added")
	}
	same(t, "traffic in March after a failure", traffic(t, s, march), inMarch)

	del := func(m control.Month) {
		t.Helper()
		mustUpdate(t, s, func(ctx context.Context, w control.Writer) error { return w.DeleteTraffic(ctx, m) })
	}
	del(march)
	same(t, "traffic in March, which is kept", traffic(t, s, march), inMarch)
	del(april)
	same(t, "traffic in March, which is not", traffic(t, s, march), nil)
	same(t, "traffic in April", traffic(t, s, april), inApril)
}

func testTrafficOfForgotten(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"), key(2, "otto"))
	gone, goneToo, moved, here := deviceID(1, 1), deviceID(2, 1), deviceID(3, 1), deviceID(4, 1)
	old := someDay.AddDate(0, 0, -1)
	putDevices(t, s, control.Device{ID: gone, KeyID: keyID(1), Expires: old},
		control.Device{ID: goneToo, KeyID: keyID(1), Expires: old},
		control.Device{ID: moved, KeyID: keyID(2), Expires: old},
		control.Device{ID: here, KeyID: keyID(1), Expires: someDay})
	addTraffic(t, s, march, control.Traffic{KeyID: keyID(1), Device: gone, Bytes: 10},
		control.Traffic{KeyID: keyID(1), Device: goneToo, Bytes: 20},
		control.Traffic{KeyID: keyID(1), Device: moved, Bytes: 30},
		control.Traffic{KeyID: keyID(2), Device: moved, Bytes: 40},
		control.Traffic{KeyID: keyID(1), Device: here, Bytes: 50})
	addTraffic(t, s, april, control.Traffic{KeyID: keyID(1), Device: gone, Bytes: 60})
	forget := func(before time.Time) {
		t.Helper()
		mustUpdate(t, s, func(ctx context.Context, w control.Writer) error {
			_, err := w.DeleteDevices(ctx, before)
			return err
		})
	}
	forget(someDay)
	want := []control.Traffic{{KeyID: keyID(1), Bytes: 60}, {KeyID: keyID(1), Device: here, Bytes: 50},
		{KeyID: keyID(2), Bytes: 40}}
	same(t, "traffic in March", traffic(t, s, march), want)
	same(t, "traffic in April", traffic(t, s, april), []control.Traffic{{KeyID: keyID(1), Bytes: 60}})
	// One comes back, carries more, and is forgotten again.
	putDevices(t, s, control.Device{ID: gone, KeyID: keyID(1), Expires: old})
	addTraffic(t, s, march, control.Traffic{KeyID: keyID(1), Device: gone, Bytes: 1})
	forget(someDay)
	want[0].Bytes++
	same(t, "traffic in March", traffic(t, s, march), want)
}

// testTrafficIsExact: many gateways add for the same devices at once, and not a byte is lost or counted twice.
func testTrafficIsExact(t *testing.T, db Database) {
	const handles, workers, rounds = 3, 4, 10
	first := db(t)
	insertKeys(t, first, key(1, "anna"), key(2, "otto"))
	a, b := deviceID(1, 1), deviceID(2, 1)
	putDevices(t, first, control.Device{ID: a, KeyID: keyID(1), Expires: someDay},
		control.Device{ID: b, KeyID: keyID(2), Expires: someDay})
	var wg sync.WaitGroup
	for range handles {
		s := db(t)
		for range workers {
			wg.Go(func() {
				for range rounds {
					if err := update(t, s, func(ctx context.Context, w control.Writer) error {
						return w.AddTraffic(ctx, march, []control.Traffic{{KeyID: keyID(1), Device: a, Bytes: 3},
							{KeyID: keyID(2), Device: b, Bytes: 5}})
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	const n = handles * workers * rounds
	same(t, "traffic", traffic(t, first, march), []control.Traffic{{KeyID: keyID(1), Device: a, Bytes: 3 * n},
		{KeyID: keyID(2), Device: b, Bytes: 5 * n}})
}

// limited is an access key with a limit, and a device of it with its certificate.
func limited(t testing.TB, s *control.Service, limit int64) (k control.AccessKey, id device.ID, certificate []byte) {
	t.Helper()
	k, err := s.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 3, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	public := newDevice(t).Public()
	if certificate, err = s.Enrol(t.Context(), k.ID, public); err != nil {
		t.Fatal(err)
	}
	return k, device.IDOf(public), certificate
}

// testLimitCrossesHandles: what two gateways carried counts together, and both cut the key off.
func testLimitCrossesHandles(t *testing.T, db Database) {
	s := services(t, db, 2)
	k, id, certificate := limited(t, s[0], 1000)
	other := addKey(t, s[0], "otto", 1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	heard := make(chan [][8]byte, 4) // more than is announced, as a listener must not block
	for _, gateway := range s {
		gateway.OnRevoked(func(_ []device.ID, keys [][8]byte) { heard <- keys })
		wg.Go(func() { wantError(t, "run", gateway.Run(ctx), context.Canceled) })
	}
	defer wg.Wait()
	defer cancel()
	add := func(gateway *control.Service, n int64) {
		t.Helper()
		if err := gateway.AddTraffic(t.Context(), []control.Traffic{{KeyID: k.ID, Device: id, Bytes: n}}); err != nil {
			t.Fatal(err)
		}
	}
	add(s[0], 500)
	add(s[1], 499)
	if _, err := s[1].Authorize(certificate, time.Now()); err != nil {
		t.Errorf("a byte below the limit: %v", err)
	}
	add(s[0], 1)
	_, err := s[0].Authorize(certificate, time.Now())
	wantError(t, "at the limit, at once", err, control.ErrQuota)
	for range s {
		select {
		case keys := <-heard:
			if len(keys) != 1 || keys[0] != k.ID {
				t.Errorf("heard %v, want anna's key", keys)
			}
		case <-time.After(time.Second):
			t.Fatal("not both gateways heard of it within a second")
		}
	}
	_, err = s[1].Authorize(certificate, time.Now())
	wantError(t, "at the limit, at the other gateway", err, control.ErrQuota)
	_, err = s[1].Enrol(t.Context(), k.ID, newDevice(t).Public())
	wantError(t, "another device", err, control.ErrQuota)
	if _, err := s[1].Enrol(t.Context(), other.ID, newDevice(t).Public()); err != nil {
		t.Errorf("another key: %v", err)
	}
}

// testForgottenGiveNothingBack: a device that is deleted and enrols again finds its key's data as used up as before.
func testForgottenGiveNothingBack(t *testing.T, db Database) {
	store := db(t)
	s := services(t, db, 1)[0]
	k, id, certificate := limited(t, s, 1000)
	carried := []control.Traffic{{KeyID: k.ID, Device: id, Bytes: 600}}
	if err := s.AddTraffic(t.Context(), carried); err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, store, func(ctx context.Context, w control.Writer) error {
		_, err := w.DeleteDevices(ctx, time.Now().AddDate(1, 0, 0))
		return err
	})
	if found := devices(t, store, control.DeviceFilter{}); len(found) != 0 {
		t.Fatalf("devices %v were not forgotten", found)
	}
	totals, err := s.Totals(t.Context(), time.Now())
	if err != nil || totals.Keys[k.ID] != 600 || len(totals.Devices) != 0 {
		t.Errorf("totals are %+v, %v; want 600 of the key and none of a device", totals, err)
	}
	if _, err := s.Renew(t.Context(), certificate); err != nil {
		t.Fatal(err)
	}
	carried[0].Bytes = 400
	if err := s.AddTraffic(t.Context(), carried); err != nil {
		t.Fatal(err)
	}
	_, err = s.Authorize(certificate, time.Now())
	wantError(t, "600 before and 400 after", err, control.ErrQuota)
	totals, err = s.Totals(t.Context(), time.Now())
	if err != nil || totals.Keys[k.ID] != 1000 || totals.Devices[id] != 400 {
		t.Errorf("totals are %+v, %v; want 1000 of the key and 400 of the device", totals, err)
	}
}
