package session

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/transport"
)

// simLaned is a connection with lanes, each a line of its own.
type simLaned struct {
	simNonBlocking
	path simPath
	far  *simLaned

	lanesMu sync.Mutex
	lanes   map[uint32]*simDir
	take    chan func(io.Reader)
}

type dirReader struct{ *simDir }

func (r dirReader) Read(p []byte) (int, error) { return r.read(p) }

func (c *simLaned) OnLane(read func(io.Reader)) { c.take <- read }

func (c *simLaned) WriteLanes(bufs [][]byte, lanes []uint32) error {
	for i, b := range bufs {
		if lanes[i] == 0 {
			if _, err := c.Write(b); err != nil {
				return err
			}
			continue
		}
		if _, err := c.lane(lanes[i]).put(b); err != nil {
			return err
		}
	}
	return nil
}

// lane is the line of a lane, which the far side reads from its beginning.
func (c *simLaned) lane(n uint32) *simDir {
	c.lanesMu.Lock()
	defer c.lanesMu.Unlock()
	if d := c.lanes[n]; d != nil {
		return d
	}
	d := newSimDir(c.path)
	c.lanes[n] = d
	go func() {
		read := <-c.far.take
		c.far.take <- read
		read(dirReader{d})
	}()
	return d
}

func (c *simLaned) Close() error {
	c.lanesMu.Lock()
	for _, d := range c.lanes {
		d.close(io.EOF)
	}
	c.lanesMu.Unlock()
	return c.simNonBlocking.Close()
}

// attachLaned joins the ends by a link with lanes.
func (p *pair) attachLaned(path simPath) (client, gateway *simLaned) {
	p.t.Helper()
	l := newSimLink(path)
	ends := [2]*simLaned{}
	for i, c := range [...]*simConn{l.client, l.gateway} {
		ends[i] = &simLaned{simNonBlocking: simNonBlocking{simConn: c}, path: path, lanes: map[uint32]*simDir{},
			take: make(chan func(io.Reader), 1)}
	}
	ends[0].far, ends[1].far = ends[1], ends[0]
	for i, s := range [...]*Session{p.client, p.gateway} {
		next := [...]*Session{p.gateway, p.client}[i].Next()
		if _, err := s.Attach(ends[i], LinkOptions{Transport: "sim", Confirmed: true, PeerNext: next, RTT: 2 * path.delay}); err != nil {
			p.t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}

// A stream does not wait for what another one's lane has lost, nor do acknowledgements, nor do packets for anything.
func TestLanesOfStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo)
		got := make(chan string, 4)
		p.client.cfg.Packet = func(b []byte) { got <- string(b) }
		_, gateway := p.attachLaned(fast)
		var streams [2]flow.Stream
		for i := range streams {
			st, err := p.client.Open(t.Context(), target, false)
			if err != nil {
				t.Fatal(err)
			}
			streams[i] = st
			exchange(t, st, "hello")
		}
		if len(gateway.lanes) != 2 {
			t.Fatalf("two streams have %d lanes", len(gateway.lanes))
		}
		stuck := gateway.lane(1)
		stuck.hold(2 * time.Second)
		streams[0].Write([]byte("held"))
		began := time.Now()
		for range 10 {
			exchange(t, streams[1], "free")
		}
		p.gateway.SendPacket([]byte("a packet"))
		if <-got != "a packet" {
			t.Error("another packet came")
		}
		if d := time.Since(began); d > 300*time.Millisecond {
			t.Errorf("ten exchanges and a packet took %v beside a stream that has lost something", d)
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(streams[0], b); err != nil || string(b) != "held" {
			t.Errorf("the other stream brought %q, %v", b, err)
		}
		if gateway.lane(uint32(transport.LaneLoose)).sent == 0 {
			t.Error("the packet was not sent as what is loose")
		}
		p.close()
	})
}

func exchange(t *testing.T, st flow.Stream, text string) {
	t.Helper()
	st.Write([]byte(text))
	b := make([]byte, len(text))
	if _, err := io.ReadFull(st, b); err != nil || string(b) != text {
		t.Fatalf("%q came back as %q, %v", text, b, err)
	}
}
