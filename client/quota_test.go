package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/gateway"
)

// A client whose access key is used up says so, waits without knocking again and again, and is back next month.
func TestQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g, err := w.dir.Service(logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1) // the gateway must not wait for us
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		g.Close()
	})
	k, err := w.dir.Control.AddKey(t.Context(), control.AccessKey{Name: "limited", MaxDevices: 1, Limit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Key: key, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	slept := client.SetAsleep(c)
	done := run(t, c)
	ready(t, c)
	// As another gateway of the network would add it.
	err = w.dir.Control.AddTraffic(t.Context(), []control.Traffic{{KeyID: k.ID, Device: device.ID{1}, Bytes: 1 << 30}})
	if err != nil {
		t.Fatal(err)
	}
	until := func(what string, is func(client.Status, gateway.Status) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !is(c.Status(), g.Gateway.Status()); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not %s: %+v, %+v", what, c.Status(), g.Gateway.Status())
			}
		}
	}
	until("refused", func(c client.Status, g gateway.Status) bool {
		return c.State != client.Connected && strings.Contains(c.Error, "data for this month is used up") && g.Sessions == 0
	})
	short, cancelShort := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancelShort()
	if err := c.Ready(short); !errors.Is(err, client.ErrRefused) {
		t.Errorf("ready: %v, want a refusal", err)
	}
	if n := g.Gateway.Status().Refused; n != 1 {
		t.Errorf("it was refused %d times within three seconds", n)
	}
	if st := c.Status(); !strings.Contains(st.Error, "used up") {
		t.Errorf("the reason is lost: %+v", st)
	}
	select {
	case err := <-done:
		t.Fatalf("the client ended: %v", err)
	default:
	}

	err = w.dir.Store.Update(t.Context(), func(w control.Writer) error { // what no month but this one counts
		return w.DeleteTraffic(t.Context(), control.MonthOf(time.Now())+1)
	})
	if err != nil {
		t.Fatal(err)
	}
	until("free again", func(client.Status, gateway.Status) bool {
		return w.dir.Control.Check(device.ID{}, k.ID, time.Now()) == nil
	})
	slept.Store(int64(time.Hour)) // rather than wait for the day to end: who wakes asks at once
	until("let in again", func(st client.Status, _ gateway.Status) bool {
		return st.State == client.Connected && st.Error == ""
	})
}
