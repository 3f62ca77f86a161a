package session

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// Chunks come in any order, twice, and cut at other places: what is read is what was sent.
func TestOverlappingChunks(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			const size = 3000
			rng := rand.New(rand.NewPCG(seed, 0))
			p := newPair(t, func(st *Stream, _ flow.Target) { st.Answer(nil) })
			p.attach(simPath{rate: 1e6})
			opened, err := p.client.Open(t.Context(), target, false)
			if err != nil {
				t.Fatal(err)
			}
			st, want := opened.(*Stream), pattern(size, byte(seed))
			var got []byte
			for len(got) < size {
				from := rng.IntN(size)
				to := min(size, from+1+rng.IntN(400))
				p.client.mu.Lock()
				err := st.dataLocked(wire.Data{Offset: uint64(from), Payload: bytes.Clone(want[from:to])})
				for i := 1; i < len(st.segments); i++ {
					if st.segments[i].off < st.segments[i-1].end() {
						t.Errorf("seed %d: segments overlap", seed)
					}
				}
				ready := len(st.segments) > 0 && st.segments[0].off == st.recvOff
				p.client.mu.Unlock()
				if err != nil {
					t.Fatal(err)
				}
				if ready && rng.IntN(3) == 0 {
					buf := make([]byte, 1+rng.IntN(500))
					n, err := st.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, buf[:n]...)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("seed %d: %d bytes, others than were sent", seed, len(got))
			}
			st.Reset(flow.CodeReset)
			if r := p.client.Status().Reassembly; r != 0 {
				t.Errorf("seed %d: %d bytes are still held", seed, r)
			}
			p.close()
		})
	}
}

// A far side that leaves a gap after every byte loses the stream, before it costs much.
func TestTooManySegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(st *Stream, _ flow.Target) { st.Answer(nil) })
		p.attach(simPath{rate: 1e6})
		opened, err := p.client.Open(t.Context(), target, false)
		if err != nil {
			t.Fatal(err)
		}
		st := opened.(*Stream)
		p.client.mu.Lock()
		for i := range uint64(2 * maxSegments) {
			if err = st.dataLocked(wire.Data{Offset: 1 + 2*i, Payload: []byte("x")}); err != nil || st.err != nil {
				break
			}
		}
		n := len(st.segments)
		p.client.mu.Unlock()
		if _, err := st.Read(make([]byte, 1)); err == nil || err == io.EOF || n != 0 {
			t.Errorf("%d segments, and reading gives %v", n, err)
		}
		p.close()
	})
}
