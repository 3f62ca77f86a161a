package packet

import (
	"bytes"
	"testing"
	"time"
)

// What is taken apart is put together as it was.
func TestFragments(t *testing.T) {
	t.Parallel()
	var r Reassembly
	for _, n := range []int{1, 1232, 1233, 5000, 65507} {
		for _, mtu := range []int{56, 1280, 1400} {
			b := mustUDP(t, at(a6, 4000), at(b6, 53), string(bytes.Repeat([]byte("x"), n)))
			p := mustParse(t, b)
			var whole []byte
			pieces := 0
			ok := p.Fragments(mtu, 7, func(piece []byte) {
				if pieces++; len(piece) > mtu {
					t.Fatalf("a fragment of %d bytes, of at most %d", len(piece), mtu)
				}
				got, isPiece := r.Add(piece, time.Now())
				if !isPiece || whole != nil {
					t.Fatalf("fragment %d is none: %x", pieces, piece)
				}
				whole = got
			})
			if !ok || !bytes.Equal(whole, b) {
				t.Errorf("%d bytes in %d fragments of %d: %d bytes", n, pieces, mtu, len(whole))
			}
		}
	}
	p4 := mustParse(t, mustUDP(t, at(a4, 1), at(b4, 2), "x"))
	if p4.Fragments(1280, 7, func([]byte) { t.Error("a fragment") }) {
		t.Error("IPv4 is taken apart")
	}
}

// FuzzReassembly puts together what anyone may make of three fragments.
func FuzzReassembly(f *testing.F) {
	p := mustParse(f, mustUDP(f, at(a6, 4000), at(b6, 53), "a question that is somewhat long"))
	var pieces [][]byte
	p.Fragments(64, 7, func(b []byte) { pieces = append(pieces, bytes.Clone(b)) })
	f.Add(pieces[0], pieces[1], pieces[2])
	v4 := mustUDP(f, at(a4, 4000), at(b4, 53), "question")
	v4[6] = 0x20
	f.Add(v4, v4, pieces[0])
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		var r Reassembly
		for _, piece := range [][]byte{a, b, c, b} {
			before := bytes.Clone(piece)
			whole, isPiece := r.Add(piece, time.Now())
			if !bytes.Equal(before, piece) || whole != nil && !isPiece || len(whole) > header6+maxLength+60 {
				t.Fatalf("%x makes %x", piece, whole)
			}
			Parse(whole)
		}
	})
}
