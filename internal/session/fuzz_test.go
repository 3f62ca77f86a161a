package session

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// fuzzConn is a link whose far end is the fuzzer.
type fuzzConn struct {
	*simConn
	in []byte
}

func (c *fuzzConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *fuzzConn) Write(p []byte) (int, error) { return len(p), nil }

// FuzzLink feeds both ends of a session whatever the far side may send behind the door. Nothing may panic, hang or be
// held beyond the bounds, and all must be given back.
func FuzzLink(f *testing.F) {
	seq := func(n uint64, b []byte) []byte { wire.PutSeq(b, n); return b }
	data := func(stream uint32, off uint64, payload string) []byte {
		b := append(make([]byte, wire.DataOverhead), payload...)
		wire.PutData(b, stream, off)
		return b
	}
	join := func(frames ...[]byte) (all []byte) {
		for i, b := range frames {
			if wire.Type(b[0]).Numbered() {
				seq(uint64(i), b)
			}
			all = append(all, b...)
		}
		return all
	}
	open := wire.AppendOpen(nil, wire.Open{Stream: 0, Window: 1 << 16, Target: target})
	f.Add(join(open, data(0, 0, "hello"), wire.AppendFin(nil, wire.Mark{Stream: 0, Offset: 5})))
	f.Add(join(data(0, 5, "later"), data(0, 0, "first"), open, wire.AppendReset(nil, wire.Reset{Stream: 0})))
	f.Add(join(wire.AppendResolve(nil, wire.Resolve{ID: 1, Name: "x.example"}), wire.AppendPing(nil, 1),
		wire.AppendAck(nil, wire.Ack{}), wire.AppendPacket(nil, []byte{0x45}), wire.AppendGoAway(nil, wire.GoAway{Reason: 1})))
	f.Add(join(wire.AppendWindow(nil, wire.Mark{Stream: 0, Offset: 1 << 40}), wire.AppendOpened(nil, wire.Opened{Stream: 0}),
		wire.AppendClose(nil, 0), wire.AppendVoid(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, role := range []Role{Client, Gateway} {
			pool := NewPool(64 << 20)
			s := New(Config{Role: role, Pool: pool,
				Accept: func(st *Stream, _ flow.Target) {
					st.Answer(nil)
					io.Copy(io.Discard, st)
					st.Close()
				},
				Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, net.ErrClosed },
				Packet:  func([]byte) {},
			})
			conn := &fuzzConn{simConn: newSimLink(fast).client, in: b}
			l, err := s.Attach(conn, LinkOptions{Transport: "fuzz", Confirmed: true})
			if err != nil {
				t.Fatal(err)
			}
			if role == Client {
				if st, err := s.Open(t.Context(), target, true); err == nil {
					go io.Copy(io.Discard, st)
				}
			}
			<-l.readDone
			if st := s.Status(); st.Held+st.Reassembly > MaxSessionMemory {
				t.Errorf("%d bytes are held", st.Held+st.Reassembly)
			}
			s.end(errClosed)
		}
	})
}
