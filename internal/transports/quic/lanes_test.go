package quic

import (
	"encoding/binary"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// lanePair is a client and a gateway on a path that loses nothing but what it is told to.
type lanePair struct {
	client, server *conn
	gateway        *end
	came           chan uint32 // what came to the client by lanes: numbers
}

func newLanePair(t *testing.T) (p *lanePair, done func()) {
	t.Helper()
	a, b, ends, end := simulateLines(t, line{delay: 100 * time.Millisecond, rate: 100e6 / 8, queue: 50 * time.Millisecond}, 1)
	p = &lanePair{client: a.(*conn), server: b.(hostedConn).conn, gateway: ends[1], came: make(chan uint32, 1<<10)}
	if _, err := b.Write(make([]byte, 1)); err != nil { // the marker goes before
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.client.OnLane(func(lane io.Reader) {
		var b [4]byte
		for {
			if _, err := io.ReadFull(lane, b[:]); err != nil {
				return
			}
			p.came <- binary.BigEndian.Uint32(b[:])
		}
	})
	go io.Copy(io.Discard, a)
	time.Sleep(time.Second)
	return p, end
}

// say has the gateway send a number by a lane, in a packet of its own.
func (p *lanePair) say(t *testing.T, number, lane uint32) {
	t.Helper()
	if err := p.server.WriteLanes([][]byte{binary.BigEndian.AppendUint32(nil, number)}, []uint32{lane}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(looseSpacing)
}

// hear waits for the next number.
func (p *lanePair) hear(t *testing.T, want uint32, within time.Duration) {
	t.Helper()
	began := time.Now()
	if got := <-p.came; got != want || time.Since(began) > within {
		t.Errorf("number %d came after %v; it should be %d, within %v", got, time.Since(began), want, within)
	}
}

// What a lane has lost holds up that lane, and what is loose holds up nothing.
func TestLanesDoNotWait(t *testing.T) {
	const oneWay = 110 * time.Millisecond
	for _, tt := range []struct {
		name         string
		lost, others [2]uint32 // lanes
		order        []uint32
	}{
		{"of streams", [2]uint32{1, 1}, [2]uint32{2, 3}, []uint32{3, 4, 1, 2}},
		{"loose", [2]uint32{transport.LaneLoose, 1}, [2]uint32{transport.LaneLoose, transport.LaneLoose}, []uint32{2, 3, 4, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, done := newLanePair(t)
				defer done()
				for i := range uint32(4) { // lanes that are there, and that are not, alike
					p.say(t, 100+i, i)
				}
				time.Sleep(time.Second)
				for len(p.came) > 0 {
					<-p.came
				}
				p.gateway.lose(1)
				p.say(t, 1, tt.lost[0])
				p.gateway.lose(0)
				p.say(t, 2, tt.lost[1])
				p.say(t, 3, tt.others[0])
				p.say(t, 4, tt.others[1])
				for i, want := range tt.order {
					within := oneWay
					if want < 3 && i > 1 {
						within = time.Second // it has to be sent again
					}
					p.hear(t, want, within)
				}
			})
		})
	}
}

// Lanes that carry nothing are left, and there are never more than there may be.
func TestLanesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, done := newLanePair(t)
		defer done()
		open := func() int {
			p.server.mu.Lock()
			defer p.server.mu.Unlock()
			return len(p.server.lanes.open)
		}
		for i := range uint32(3 * mostLanes) {
			p.say(t, i, 1+i)
		}
		if n := open(); n > mostLanes || n < mostLanes/2 {
			t.Errorf("%d lanes are open of %d", n, mostLanes)
		}
		seen := map[uint32]bool{}
		for range 3 * mostLanes {
			seen[<-p.came] = true
		}
		if len(seen) != 3*mostLanes {
			t.Errorf("%d numbers came of %d", len(seen), 3*mostLanes)
		}
		time.Sleep(2 * laneIdle)
		p.say(t, 0, 1)
		if n := open(); n != 1 {
			t.Errorf("%d lanes are open, of which one carries something", n)
		}
	})
}
