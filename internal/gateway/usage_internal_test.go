package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/store"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// fullDisk is a store that can be told to take nothing more.
type fullDisk struct {
	control.Store
	full atomic.Bool
}

func (s *fullDisk) Update(ctx context.Context, fn func(control.Writer) error) error {
	if s.full.Load() {
		return s.Store.Update(ctx, func(w control.Writer) error {
			if err := fn(w); err != nil {
				return err
			}
			return store.ErrFull // at the very end, as a commit finds out
		})
	}
	return s.Store.Update(ctx, fn)
}

// nowhere is an egress for sessions that reach nothing.
type nowhere struct{ flow.Egress }

func (nowhere) Packets(func([]byte)) flow.PacketSink { return nowhereSink{} }

type nowhereSink struct{}

func (nowhereSink) WritePacket([]byte) {}
func (nowhereSink) Close() error       { return nil }

// pipeConn is one end of a link, without a network.
type pipeConn struct{ net.Conn }

func (pipeConn) Export(string, []byte, int) ([]byte, error) { return make([]byte, 32), nil }
func (pipeConn) ServerKey() [32]byte                        { return [32]byte{} }
func (pipeConn) Knock() []byte                              { return nil }

// While the disk is full, sessions come and go, and what they carry is counted later: all of it, and once.
func TestCountsSurviveAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sqlite, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "godwit.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer sqlite.Close()
	disk := &fullDisk{Store: sqlite}
	secrets, err := control.InitSecrets(dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := control.New(t.Context(), control.Config{Store: disk, Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	key, err := c.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 2, Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // only this goroutine logs
	g := New(Config{Control: c, Egress: nowhere{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	dev, err := device.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := c.Enrol(t.Context(), key.ID, dev.Public())
	if err != nil {
		t.Fatal(err)
	}
	grant, err := c.Authorize(certificate, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	// carry is a session that takes n bytes.
	carry := func(id byte, n int) *guest {
		t.Helper()
		v, _, cause := g.sessionFor(wire.Hello{Session: wire.SessionID{id}, Flags: wire.HelloNew}, grant)
		if cause != 0 {
			t.Fatalf("no session: cause %d", cause)
		}
		here, there := net.Pipe()
		if _, err := v.session.Attach(pipeConn{here}, session.LinkOptions{Transport: "pipe", Confirmed: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := there.Write(wire.AppendPacket(nil, make([]byte, n-wire.HeaderLen))); err != nil {
			t.Fatal(err)
		}
		for v.session.Carried() < uint64(n) {
			time.Sleep(time.Millisecond)
		}
		there.Close() // so that its end says no more
		for v.session.Status().Detached.IsZero() {
			time.Sleep(time.Millisecond)
		}
		return v
	}
	end := func(v *guest) {
		v.session.Close(0)
		for len(g.guests(func(o *guest) bool { return o == v })) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	want := func(n int64) {
		t.Helper()
		totals, err := c.Totals(t.Context(), time.Now())
		if err != nil || totals.Keys[key.ID] != n || totals.Devices[dev.ID()] != n {
			t.Errorf("totals are %+v, %v; want %d", totals, err, n)
		}
	}
	idle := func(when string, want bool) {
		t.Helper()
		if since, ok := g.Idle(); ok != want || ok && time.Since(since) > time.Minute {
			t.Errorf("%s: idle since %v, %v; want %v", when, since, ok, want)
		}
	}
	idle("before anybody came", false)
	one := carry(1, 1000)
	g.addUsage(t.Context())
	want(1000)
	idle("with a session that has no link", false)
	disk.full.Store(true)
	end(one)
	two := carry(2, 2000)
	g.addUsage(t.Context())
	end(two)
	g.addUsage(t.Context())
	idle("with bytes to be counted", false)
	three := carry(3, 4000)
	g.addUsage(t.Context())
	want(1000)
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("it was not said once, as a warning:\n%s", &log)
	}
	disk.full.Store(false)
	var wg sync.WaitGroup
	wg.Go(func() { end(three) }) // counted at its end or now, and not both times
	g.addUsage(t.Context())
	wg.Wait()
	g.addUsage(t.Context())
	want(7000)
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("it was not said once that it works again:\n%s", &log)
	}
	for _, secret := range []string{dev.ID().String(), key.Name, string(key.ID[:])} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log says %q", secret)
		}
	}
	end(carry(4, 60_000))
	g.addUsage(t.Context())
	if err := c.Check(dev.ID(), key.ID, time.Now()); err != nil {
		t.Errorf("below the limit: %v", err)
	}
	if len(g.usage.due) != 0 {
		t.Errorf("still due: %v", g.usage.due)
	}
	idle("when all is counted", true)
}

func TestUntilNextMonth(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]time.Duration{
		"2027-03-01T00:00:00Z":    24 * time.Hour,
		"2027-03-31T12:00:00.25Z": 12 * time.Hour,
		"2027-03-31T23:59:59.9Z":  time.Second,
		"2027-12-31T23:00:00Z":    time.Hour + time.Second,
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := untilNextMonth(now); got != want {
			t.Errorf("at %s: %v, want %v", at, got, want)
		}
	}
}
