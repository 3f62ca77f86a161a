package firewall

import (
	"net/netip"
	"slices"
	"time"
)

// Scope is how much of the network a block is about.
type Scope int

// The scopes. In all of them Proto narrows further, if it is set.
const (
	Connection Scope = iota // 4-tuple: both addresses and both ports
	Pair                    // 3-tuple: the client's address, the server's address and port
	Endpoint                // the server's address and port, whoever comes
	Address                 // the server's address
	Network                 // a prefix, of servers
)

func (s Scope) String() string {
	return [...]string{"connection", "3-tuple", "endpoint", "address", "network"}[s]
}

// UnmarshalText reads a scope from a profile.
func (s *Scope) UnmarshalText(b []byte) error {
	for v := Connection; v <= Network; v++ {
		if string(b) == v.String() {
			*s = v
			return nil
		}
	}
	return errScope
}

// Way says packets of which end are meant.
type Way int

// The ways.
const (
	BothWays Way = iota
	ToServer
	ToClient
)

func (w Way) String() string { return [...]string{"both", "to-server", "to-client"}[w] }

// UnmarshalText reads a way from a profile.
func (w *Way) UnmarshalText(b []byte) error {
	for v := BothWays; v <= ToClient; v++ {
		if string(b) == v.String() {
			*w = v
			return nil
		}
	}
	return errWay
}

func (w Way) covers(toServer bool) bool { return w == BothWays || toServer == (w == ToServer) }

// Block is an entry in a box's table: what happens for a while to packets between some ends. Without Forge they are
// dropped.
type Block struct {
	Rule  string // whose
	Scope Scope
	// The ends; Scope says which parts count. In scope Network only Net does.
	Client, Server netip.AddrPort
	Net            netip.Prefix
	Proto          uint8 // zero is any
	Way            Way

	// Wait is how long after it was added it begins to act, For how long it acts then; zero is for ever.
	Wait, For time.Duration
	// Extend starts For anew with each packet that it meets.
	Extend bool
	// Fixed leaves a block of the same thing as it is, where otherwise For would begin anew.
	Fixed bool
	// Pass lets that many packets by before it acts.
	Pass int
	// Chance, if not zero, is how likely a connection is to be met at all.
	Chance float64
	// Data spares packets without a payload.
	Data bool
	// Only, if not nil, says which packets it meets.
	Only func(f *Flow, p *Packet) bool
	// Forge, if not nil, is done for each packet it meets, which then passes, if Forge does not drop it.
	Forge func(f *Flow, p *Packet, do *Action)

	from, until time.Duration
	spared      map[*Flow]bool // by Chance
}

func (b *Block) key() tableKey {
	k := tableKey{scope: b.Scope, proto: b.Proto, server: b.Server}
	switch b.Scope {
	case Connection:
		k.client = b.Client
	case Pair:
		k.client = netip.AddrPortFrom(b.Client.Addr(), 0)
	case Address:
		k.server = netip.AddrPortFrom(b.Server.Addr(), 0)
	case Network:
		k.server = netip.AddrPort{}
	}
	return k
}

type tableKey struct {
	scope          Scope
	proto          uint8
	client, server netip.AddrPort
}

// table holds blocks. Its zero value is ready.
type table struct {
	blocks map[tableKey][]*Block
	swept  time.Duration
}

// sweepEvery is how often blocks that ended are thrown away.
const sweepEvery = time.Minute

func (t *table) add(now time.Duration, b *Block) {
	if t.blocks == nil {
		t.blocks = make(map[tableKey][]*Block)
	}
	if now > t.swept+sweepEvery {
		t.swept = now
		for k, list := range t.blocks {
			if list = slices.DeleteFunc(list, func(b *Block) bool { return b.over(now) }); len(list) == 0 {
				delete(t.blocks, k)
			} else {
				t.blocks[k] = list
			}
		}
	}
	b.from = now + b.Wait
	b.until = b.from + b.For
	k := b.key()
	// The same rule's block of the same thing is begun anew rather than kept twice, but not put off.
	for _, old := range t.blocks[k] {
		if old.Rule == b.Rule && old.Net == b.Net && old.Way == b.Way && !old.over(now) {
			switch {
			case b.Fixed:
			case b.For == 0:
				old.For = 0
			default:
				old.until = max(old.until, b.until)
			}
			return
		}
	}
	t.blocks[k] = append(t.blocks[k], b)
}

func (b *Block) over(now time.Duration) bool { return b.For != 0 && now >= b.until }

// meet yields the blocks that act on a packet.
func (t *table) meet(f *Flow, p *Packet, yield func(*Block) (more bool)) {
	if len(t.blocks) == 0 {
		return
	}
	for _, proto := range [...]uint8{0, p.Proto} {
		for _, k := range [...]tableKey{
			{Connection, proto, f.Client, f.Server},
			{Pair, proto, netip.AddrPortFrom(f.Client.Addr(), 0), f.Server},
			{Endpoint, proto, netip.AddrPort{}, f.Server},
			{Address, proto, netip.AddrPort{}, netip.AddrPortFrom(f.Server.Addr(), 0)},
			{Network, proto, netip.AddrPort{}, netip.AddrPort{}},
		} {
			for _, b := range t.blocks[k] {
				if b.meets(f, p) && !yield(b) {
					return
				}
			}
		}
	}
}

func (b *Block) meets(f *Flow, p *Packet) bool {
	switch {
	case p.At < b.from || b.over(p.At),
		b.Scope == Network && !b.Net.Contains(f.Server.Addr()),
		!b.Way.covers(p.FromClient),
		b.Data && len(p.Payload) == 0,
		b.Only != nil && !b.Only(f, p):
		return false
	}
	if b.Chance != 0 {
		spared, drawn := b.spared[f]
		if !drawn {
			if b.spared == nil {
				b.spared = make(map[*Flow]bool)
			}
			spared = !f.Chance(b.Chance)
			b.spared[f] = spared
		}
		if spared {
			return false
		}
	}
	if b.Extend {
		b.until = p.At + b.For
	}
	if b.Pass > 0 {
		b.Pass--
		return false
	}
	return true
}
