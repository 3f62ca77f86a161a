package firewall

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Flow is a connection, or whatever UDP and other protocols have in its place: all packets between two ends. Rules read
// it; only the box writes it.
type Flow struct {
	Client, Server netip.AddrPort // the client sent the first packet
	Proto          uint8
	// FromInside says that the client is inside.
	FromInside bool
	// Opened says that a TCP connection's first packet was a SYN: its client and server are what they seem.
	Opened bool
	Began  time.Duration
	Last   time.Duration // when a packet was last seen, before the one in hand

	// Of what each end sent so far, the packet in hand included.
	FromClient, FromServer Count

	sent     [2]reader // by the client, by the server
	first    uint32    // the sequence number of a TCP connection's first packet
	watching []watching
	found    []string // rules, by name
	rng      *rand.Rand
	seed     uint64
}

// Count is what one end of a flow has sent.
type Count struct {
	Packets int // all
	Data    int // with a payload
	Bytes   int // of payload, what was sent again counted again
}

type watching struct {
	rule int // in the box's list
	w    Watcher
}

type flowKey struct {
	proto uint8
	a, b  netip.AddrPort
}

func keyOf(p *Packet) flowKey {
	if p.Src.Compare(p.Dst) < 0 {
		return flowKey{p.Proto, p.Src, p.Dst}
	}
	return flowKey{p.Proto, p.Dst, p.Src}
}

// Found reports whether the named rule has found in this flow what it looks for.
func (f *Flow) Found(rule string) bool { return slices.Contains(f.found, rule) }

// Chance draws from the flow's own numbers, which the box's seed and its ends decide: true once in 1/p flows.
func (f *Flow) Chance(p float64) bool { return f.random().Float64() < p }

// Between draws a duration from low to high.
func (f *Flow) Between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(f.random().Int64N(int64(high-low)+1))
}

// IntN draws a number from 0 to n-1.
func (f *Flow) IntN(n int) int { return f.random().IntN(n) }

// Text is the beginning of what one end of a TCP connection sent, in order, as far as it was kept: until all rules are done
// with the flow, and 18 KiB at most.
func (f *Flow) Text(fromClient bool) []byte {
	if fromClient {
		return f.sent[0].text
	}
	return f.sent[1].text
}

func (f *Flow) random() *rand.Rand {
	if f.rng == nil {
		h := fnv.New64a()
		b, _ := f.Client.MarshalBinary()
		h.Write(b)
		b, _ = f.Server.MarshalBinary()
		h.Write(b)
		f.rng = rand.New(rand.NewPCG(f.seed, h.Sum64()^uint64(f.Began)))
	}
	return f.rng
}

// maxText bounds what is kept of each direction: a ClientHello may be a little over 16 KiB, and none is.
const maxText = 18 << 10

// maxEarly bounds how many segments wait for one that is missing.
const maxEarly = 32

// reader puts one direction of a TCP connection in order, as far as a box cares: its beginning.
type reader struct {
	started bool
	next    uint32 // the sequence number wanted
	text    []byte
	early   []segment
	full    bool // no more is wanted
}

type segment struct {
	seq  uint32
	data []byte
}

// see takes a packet in and reports whether the text grew.
func (r *reader) see(p *Packet) (grew bool) {
	if p.Is(SYN) {
		r.started, r.next = true, p.Seq+1
		return false
	}
	if len(p.Payload) == 0 || r.full {
		return false
	}
	if !r.started { // the beginning was not seen: what is seen first is the beginning
		r.started, r.next = true, p.Seq
	}
	grew = r.take(p.Seq, p.Payload)
	for again := true; again; {
		again = false
		for i, s := range r.early {
			if int32(s.seq-r.next) <= 0 {
				r.early = append(r.early[:i], r.early[i+1:]...)
				grew = r.take(s.seq, s.data) || grew
				again = true
				break
			}
		}
	}
	if len(r.text) >= maxText {
		r.full, r.early = true, nil
	}
	return grew
}

func (r *reader) take(seq uint32, data []byte) bool {
	ahead := int32(seq - r.next)
	if ahead > 0 {
		if len(r.early) < maxEarly {
			r.early = append(r.early, segment{seq, append([]byte(nil), data...)})
		}
		return false
	}
	if int(-ahead) >= len(data) {
		return false // had it
	}
	data = data[-ahead:]
	r.next += uint32(len(data))
	r.text = append(r.text, data...)
	return true
}
