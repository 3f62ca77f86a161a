package dns

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// pass carries packets between two ends until the second has got what the first was given.
func pass(t *testing.T, from, to *arq, want []byte, room int, lose ...func(packet []byte) [][]byte) {
	t.Helper()
	var got []byte
	buf := make([]byte, 64<<10)
	rest := want
	for begin := time.Now(); len(got) < len(want); {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("%d of %d bytes came", len(got), len(want))
		}
		if len(from.out) < 4096 {
			n := min(len(rest), 4096)
			from.write(rest[:n])
			rest = rest[n:]
		}
		quiet := true
		for i, ends := range [][2]*arq{{from, to}, {to, from}} {
			ends[0].update()
			for ends[0].pending(time.Now()) {
				quiet = false
				p := ends[0].take(time.Now(), room)
				if len(p) > room {
					t.Fatalf("a packet of %d bytes where there is room for %d", len(p), room)
				}
				for _, p := range lose[i](p) {
					if _, ok := ends[1].input(p); !ok {
						t.Fatal("a packet is none")
					}
				}
			}
		}
		for len(to.in) > 0 {
			got = append(got, buf[:to.read(buf)]...)
		}
		if quiet {
			time.Sleep(time.Millisecond)
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes came")
	}
}

// What is lost, doubled and late comes once and in order.
func TestARQ(t *testing.T) {
	t.Parallel()
	lossy := func() func(p []byte) [][]byte {
		var late [][]byte
		return func(p []byte) (now [][]byte) {
			switch rand.IntN(10) {
			case 0:
				return nil
			case 1:
				return [][]byte{p, p}
			case 2, 3:
				late = append(late, p)
				return nil
			}
			now = append([][]byte{p}, late...)
			late = nil
			return now
		}
	}
	pass(t, newARQ(100, maxWindow), newARQ(50, maxWindow), random(20_000), 120, lossy(), lossy())
}

// Numbers on the wire begin again.
func TestNumbersWrap(t *testing.T) {
	t.Parallel()
	from, to := newARQ(8, maxWindow), newARQ(8, gatewayRoom)
	all := func(p []byte) [][]byte { return [][]byte{p} }
	pass(t, from, to, random(70_000*8), 1100, all, all)
	if from.next < 70_000 || from.repeated > from.left/10 {
		t.Errorf("%d segments, %d repeated", from.left, from.repeated)
	}
}

// Who does not read is not sent more than there is room for, and what waits comes when it reads.
func TestWindow(t *testing.T) {
	t.Parallel()
	from, to := newARQ(100, maxWindow), newARQ(100, gatewayRoom)
	want := random(40_000)
	from.write(want)
	carry := func() {
		for _, ends := range [][2]*arq{{from, to}, {to, from}} {
			ends[0].update()
			for ends[0].pending(time.Now()) {
				ends[1].input(ends[0].take(time.Now(), 500))
			}
		}
	}
	for begin := time.Now(); time.Since(begin) < 200*time.Millisecond; time.Sleep(time.Millisecond) {
		carry()
	}
	if held := len(to.in) + to.kcp.PeekSize(); held > maxHeld+200 || from.next > gatewayRoom+maxHeld/100+10 {
		t.Errorf("%d bytes are held, %d segments were sent", held, from.next)
	}
	var got []byte
	buf := make([]byte, 1000)
	for begin := time.Now(); len(got) < len(want) && time.Since(begin) < 20*time.Second; carry() {
		got = append(got, buf[:to.read(buf)]...)
		time.Sleep(time.Millisecond)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came", len(got), len(want))
	}
}
