package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

// services are control on n handles of one database, with the secrets of one network.
func services(t testing.TB, db Database, n int) []*control.Service {
	t.Helper()
	secrets, err := control.InitSecrets(t.TempDir(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var list []*control.Service
	for range n {
		s, err := control.New(t.Context(), control.Config{Store: db(t), Secrets: secrets})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func newDevice(t testing.TB) *device.Key {
	t.Helper()
	k, err := device.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addKey(t testing.TB, s *control.Service, name string, maxDevices int) control.AccessKey {
	t.Helper()
	k, err := s.AddKey(t.Context(), control.AccessKey{Name: name, MaxDevices: maxDevices})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testEnrolRace: a thousand devices want in at the same time, over two handles as from two processes; as many get in as
// the access key allows, not one more and not one fewer.
func testEnrolRace(t *testing.T, db Database) {
	const wanting, allowed = 1000, 7
	s := services(t, db, 2)
	k := addKey(t, s[0], "anna", allowed)
	var in, full atomic.Int32
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range wanting {
		public := newDevice(t).Public()
		wg.Go(func() {
			<-start
			switch _, err := s[i%2].Enrol(t.Context(), k.ID, public); {
			case err == nil:
				in.Add(1)
			case errors.Is(err, control.ErrTooManyDevices):
				full.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if in.Load() != allowed || full.Load() != wanting-allowed {
		t.Errorf("%d got in and %d were told it is full; want %d and %d", in.Load(), full.Load(), allowed, wanting-allowed)
	}
	found, err := s[1].Devices(t.Context(), control.DeviceFilter{KeyID: k.ID})
	if err != nil || len(found) != allowed {
		t.Errorf("the store has %d devices, %v; want %d", len(found), err, allowed)
	}
}

// testEnrolAgain: every device asks twenty times at once, as after lost answers; all get a certificate, each takes one
// place, and the key is full afterwards.
func testEnrolAgain(t *testing.T, db Database) {
	const allowed, asking = 5, 20
	s := services(t, db, 2)
	k := addKey(t, s[0], "anna", allowed)
	var wg sync.WaitGroup
	for range allowed {
		public := newDevice(t).Public()
		for i := range asking {
			wg.Go(func() {
				certificate, err := s[i%2].Enrol(t.Context(), k.ID, public)
				if err != nil {
					t.Error(err)
					return
				}
				g, err := s[0].Authorize(certificate, time.Now())
				if err != nil || g.Device != device.IDOf(public) {
					t.Errorf("the certificate is for %v, %v; want %v", g.Device, err, device.IDOf(public))
				}
			})
		}
	}
	wg.Wait()
	_, err := s[0].Enrol(t.Context(), k.ID, newDevice(t).Public())
	wantError(t, "one more device", err, control.ErrTooManyDevices)
}

// testRevocationCrossesHandles: what another process revokes is refused here, and announced, within a second.
func testRevocationCrossesHandles(t *testing.T, db Database) {
	s := services(t, db, 2)
	gateway, operator := s[0], s[1]
	anna, otto := addKey(t, gateway, "anna", 2), addKey(t, gateway, "otto", 2)
	enrol := func(k control.AccessKey) []byte {
		t.Helper()
		certificate, err := gateway.Enrol(t.Context(), k.ID, newDevice(t).Public())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gateway.Authorize(certificate, time.Now()); err != nil {
			t.Fatal(err)
		}
		return certificate
	}
	annas, ottos, ottosOther := enrol(anna), enrol(otto), enrol(otto)

	type news struct {
		devices []device.ID
		keys    [][8]byte
	}
	heard := make(chan news, 16) // more than this test revokes, as a listener must not block
	gateway.OnRevoked(func(devices []device.ID, keys [][8]byte) { heard <- news{devices, keys} })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Run(ctx) }()
	defer func() {
		cancel()
		wantError(t, "run", <-ended, context.Canceled)
	}()
	within := func() news {
		t.Helper()
		select {
		case n := <-heard:
			return n
		case <-time.After(time.Second):
			t.Fatal("nothing was heard within a second")
			return news{}
		}
	}

	if err := operator.RevokeKey(t.Context(), "anna"); err != nil {
		t.Fatal(err)
	}
	if n := within(); len(n.devices) != 0 || len(n.keys) != 1 || n.keys[0] != anna.ID {
		t.Errorf("heard %v, want anna's key", n)
	}
	_, err := gateway.Authorize(annas, time.Now())
	wantError(t, "a device of the revoked key", err, control.ErrKeyRevoked)

	g, err := gateway.Authorize(ottos, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.RevokeDevice(t.Context(), g.Device.String()[:12]); err != nil {
		t.Fatal(err)
	}
	if n := within(); len(n.keys) != 0 || len(n.devices) != 1 || n.devices[0] != g.Device {
		t.Errorf("heard %v, want device %v", n, g.Device)
	}
	_, err = gateway.Authorize(ottos, time.Now())
	wantError(t, "the revoked device", err, control.ErrDeviceRevoked)
	if _, err := gateway.Authorize(ottosOther, time.Now()); err != nil {
		t.Errorf("another device of the same key: %v", err)
	}
}
