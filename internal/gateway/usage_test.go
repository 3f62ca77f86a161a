package gateway_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// limited is a device with an access key that has a limit.
func (w *world) limited(t *testing.T, limit int64) *visitor {
	t.Helper()
	k, err := w.dir.Control.AddKey(t.Context(), control.AccessKey{Name: "limited", MaxDevices: 2, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	key, err := w.dir.AccessKey(k)
	if err != nil {
		t.Fatal(err)
	}
	key.Endpoints = w.key.Endpoints
	return (&world{dir: w.dir, g: w.g, key: key}).visitor(t)
}

// opening is what opening a link counts: filler in the place of a browser's SETTINGS ACK.
const opening = 9

// send sends frames that are exactly n bytes together, and that nobody answers.
func send(t *testing.T, conn net.Conn, n int) {
	t.Helper()
	for n > 0 {
		size := min(n, 10_000)
		if n-size > 0 && n-size < wire.HeaderLen {
			size -= wire.HeaderLen
		}
		if _, err := conn.Write(wire.AppendPacket(nil, make([]byte, size-wire.HeaderLen))); err != nil {
			t.Fatal(err)
		}
		n -= size
	}
}

// total waits until as much was counted of a key, and not more.
func (w *world) total(t *testing.T, keyID [8]byte, want int64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		totals, err := w.dir.Control.Totals(t.Context(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := totals.Keys[keyID]; got == want {
			return
		} else if got > want || time.Now().After(deadline) {
			t.Fatalf("%d bytes were counted, want %d", got, want)
		}
	}
}

// An access key that has carried its limit is cut off, told why, and let in again next month; others go on.
func TestLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, other := w.limited(t, 100_000), w.visitor(t)
	conn, _, err := v.open(t, v.knock(wire.SessionID{1}, wire.HelloNew))
	if err != nil {
		t.Fatal(err)
	}
	others, _, err := other.open(t, other.knock(wire.SessionID{1}, wire.HelloNew))
	if err != nil {
		t.Fatal(err)
	}
	send(t, conn, 99_999-2*opening)
	send(t, others, 300_000-opening)
	w.total(t, v.w.key.ID, 99_999-opening)
	w.total(t, w.key.ID, 300_000)
	if _, _, err := v.open(t, v.knock(wire.SessionID{1}, 0)); err != nil {
		t.Fatalf("a byte below the limit: %v", err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	send(t, conn, 20_000)
	for {
		typ, body, err := wire.ReadFrame(conn, wire.MaxFrame)
		if err != nil {
			t.Fatalf("the session ended without a word: %v", err)
		}
		if typ != wire.TypeClose {
			continue
		}
		seq, rest, _ := wire.ParseSeq(body)
		if code, err := wire.ParseClose(rest); err != nil || code != flow.CodeSessionLost {
			t.Errorf("CLOSE with code %v, %v", code, err)
		}
		conn.Write(wire.AppendAck(nil, wire.Ack{Next: seq + 1}))
		break
	}
	refused := func(what string, v *visitor) {
		t.Helper()
		_, _, err := v.open(t, v.knock(wire.SessionID{2}, wire.HelloNew))
		var r *link.Refusal
		if !errors.As(err, &r) || r.Cause != wire.CauseQuota || r.Retry < 1 || r.Retry > 24*60*60 {
			t.Errorf("%s: %v (%+v), want a refusal because of the quota", what, err, r)
		}
	}
	refused("afterwards", v)
	refused("to renew", &visitor{w: v.w, dev: v.dev, cert: v.cert})
	refused("a new device", v.w.visitor(t))
	if _, _, err := other.open(t, other.knock(wire.SessionID{1}, 0)); err != nil {
		t.Errorf("another key: %v", err)
	}

	// This month's totals are gone, as they are of no account next month.
	err = w.dir.Store.Update(t.Context(), func(w control.Writer) error {
		return w.DeleteTraffic(t.Context(), control.MonthOf(time.Now())+1)
	})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, _, err = v.open(t, v.knock(wire.SessionID{3}, wire.HelloNew)); err == nil {
			break
		}
		if cause(err) != wire.CauseQuota || time.Now().After(deadline) {
			t.Fatalf("next month: %v", err)
		}
	}
}

// What sessions carried before their end, and before the gateway's, is counted.
func TestCountsAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := w.visitor(t)
	for i := range byte(2) {
		conn, _, err := v.open(t, v.knock(wire.SessionID{1 + i}, wire.HelloNew))
		if err != nil {
			t.Fatal(err)
		}
		send(t, conn, 50_000-opening)
		for w.g.Status().Received < 50_000 {
			time.Sleep(time.Millisecond)
		}
		conn.Close() // the first session ends when the second begins, the second with the gateway
		for w.g.Status().Attached > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	w.stop()
	d, err := gatewaydir.Open(t.Context(), w.dir.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	totals, err := d.Control.Totals(t.Context(), time.Now())
	if err != nil || totals.Devices[v.dev.ID()] != 100_000 {
		t.Errorf("totals are %+v, %v; want 100000 bytes of one device", totals, err)
	}
}
