package firewall

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gopacket/gopacket/ip4defrag"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

// Config makes a Box.
type Config struct {
	Name  string
	Place Place
	// Rules, with the names that events give.
	Rules []Named
	// ReassembleTCP puts what each end sends in order before rules read it.
	ReassembleTCP bool
	// ReassembleIP looks at IPv4 packets that come in fragments.
	ReassembleIP bool
	// Drops is the box that drops for one that sees a copy. Nil leaves such blocks without effect, and Check refuses it
	// where a rule needs it.
	Drops *Box
	// Prober gets the suspects; nil means that nobody probes. It must not block.
	Prober func(Suspect)
	// Seed decides all draws.
	Seed uint64
	// UDPIdle and TCPIdle are how long a flow is remembered without a packet; zero is 60 s and 10 min.
	UDPIdle, TCPIdle time.Duration
	// Exempt are addresses of either end whose packets are not looked at.
	Exempt []netip.Prefix
}

// Named is a rule and its name.
type Named struct {
	Name string
	Rule Rule
}

// Event is a rule that found what it looks for, or, if it is Cleared, did not.
type Event struct {
	At             time.Duration
	Box, Rule      string
	Client, Server netip.AddrPort
	Proto          uint8
	Cleared        bool
	Scored         bool // it only tells: nothing is done about what it found
	Detail         string
}

// Stats counts what a box did.
type Stats struct {
	Packets uint64 // looked at
	Dropped uint64
	Forged  uint64
	Flows   int // remembered now
}

// Box is one box of a firewall. It implements linkmodel.Box; Frame must not be called concurrently, the rest may.
type Box struct {
	cfg Config

	mu        sync.Mutex
	parser    *parser
	flows     map[flowKey]*Flow
	swept     time.Duration
	table     table
	fragments *ip4defrag.IPv4Defragmenter
	events    []Event
	now       time.Duration // of the last frame, on the Forwarder's clock
	seen      time.Time     // and on everyone's
	early     []early
	packets   uint64
	dropped   uint64
	forged    uint64
	packet    Packet // in hand, and what is done about it
	action    Action
}

// early is a block that another box asked for before this one had seen a frame, and so had a clock.
type early struct {
	block Block
	at    time.Time
}

// maxEvents bounds the log: a rule that fires for every packet is not worth more memory.
const maxEvents = 10000

// New makes a box.
func New(cfg Config) (*Box, error) {
	if cfg.Place == InPath && cfg.Drops != nil {
		return nil, errors.New("box " + cfg.Name + ": an in-path box drops by itself")
	}
	if cfg.UDPIdle == 0 {
		cfg.UDPIdle = time.Minute
	}
	if cfg.TCPIdle == 0 {
		cfg.TCPIdle = 10 * time.Minute
	}
	return &Box{cfg: cfg, parser: newParser(), flows: make(map[flowKey]*Flow),
		fragments: ip4defrag.NewIPv4Defragmenter()}, nil
}

// Frame takes an Ethernet frame that arrived at now, outbound (from inside) or not, and hands on by emit what leaves the
// box, which way, and how much later.
func (b *Box) Frame(now time.Duration, outbound bool, frame []byte, emit linkmodel.Emit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.seen = now, time.Now()
	for i := range b.early {
		b.table.add(now-b.seen.Sub(b.early[i].at), &b.early[i].block)
	}
	b.early = nil
	p := &b.packet
	if !b.parse(frame, p) || b.exempt(p.Src.Addr()) || b.exempt(p.Dst.Addr()) {
		emit(outbound, 0, frame)
		return
	}
	p.At, p.Outbound = now, outbound
	b.packets++
	f := b.flow(p)
	b.action = Action{box: b, f: f, p: p, emit: emit}
	b.look(f, p, &b.action)
	f.Last = now
	if b.action.dropped {
		b.dropped++
		return
	}
	emit(outbound, 0, frame)
}

// parse reads a frame; false is for what has no ports or is not looked at. A packet in fragments is looked at as a whole,
// if at all, when its last fragment passes: without that one the others are worth nothing.
func (b *Box) parse(frame []byte, p *Packet) bool {
	if !b.parser.parse(frame, p) {
		return false
	}
	if !p.Fragment {
		return true
	}
	if !b.cfg.ReassembleIP || p.v6 {
		return false
	}
	part := b.parser.ip4 // it is kept, and the frame and the parser are used again
	part.Payload, part.SrcIP, part.DstIP = slices.Clone(part.Payload), slices.Clone(part.SrcIP), slices.Clone(part.DstIP)
	part.Contents, part.Options, part.Padding = nil, nil, nil
	whole, err := b.fragments.DefragIPv4WithTimestamp(&part, b.seen)
	if err != nil || whole == nil {
		return false
	}
	return b.parser.parse(asFrame(p.ethernet, whole), p) && !p.Fragment
}

func (b *Box) exempt(a netip.Addr) bool {
	for _, n := range b.cfg.Exempt {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

func (b *Box) look(f *Flow, p *Packet, do *Action) {
	b.table.meet(f, p, func(block *Block) bool {
		do.rule = block.Rule
		if block.Forge != nil {
			block.Forge(f, p, do)
		} else {
			do.Drop()
		}
		return !do.dropped
	})
	if do.dropped {
		return // what a box swallows it does not look into
	}
	sent := &f.sent[0]
	if !p.FromClient {
		sent = &f.sent[1]
	}
	if p.Proto == TCP {
		do.grew = sent.see(p)
		do.text = sent.text
	}
	keep := f.watching[:0]
	for _, w := range f.watching {
		do.rule, do.done = b.cfg.Rules[w.rule].Name, false
		w.w.Packet(f, p, do)
		if !do.done {
			keep = append(keep, w)
		}
	}
	clear(f.watching[len(keep):])
	f.watching = keep
	if len(keep) == 0 {
		f.sent[0].full, f.sent[1].full = true, true
	}
}

// flow finds the packet's flow, or begins it, and counts the packet.
func (b *Box) flow(p *Packet) *Flow {
	k := keyOf(p)
	f := b.flows[k]
	if f != nil && b.ended(f, p) {
		f = nil
	}
	if f == nil {
		b.sweep(p.At)
		f = &Flow{Client: p.Src, Server: p.Dst, Proto: p.Proto, FromInside: p.Outbound, Began: p.At, Last: p.At, seed: b.cfg.Seed,
			Opened: opens(p), first: p.Seq}
		b.flows[k] = f
		p.FromClient = true
		for i, r := range b.cfg.Rules {
			if w := r.Rule.Watch(f); w != nil {
				f.watching = append(f.watching, watching{rule: i, w: w})
			}
		}
	}
	p.FromClient = p.Src == f.Client
	c := &f.FromClient
	if !p.FromClient {
		c = &f.FromServer
	}
	c.Packets++
	if len(p.Payload) > 0 {
		c.Data++
		c.Bytes += len(p.Payload)
	}
	return f
}

// ended reports whether a packet belongs to a new flow between the same ends as f.
func (b *Box) ended(f *Flow, p *Packet) bool {
	idle := b.cfg.UDPIdle
	if p.Proto == TCP {
		if opens(p) && (p.Src != f.Client || !f.Opened || p.Seq != f.first) {
			return true // the port is used again, or the other end begins
		}
		idle = b.cfg.TCPIdle
	}
	return p.At-f.Last > idle
}

// opens reports whether a packet begins a TCP connection.
func opens(p *Packet) bool { return p.Proto == TCP && p.Is(SYN) && !p.Is(ACK) }

func (b *Box) sweep(now time.Duration) {
	if now < b.swept+sweepEvery {
		return
	}
	b.swept = now
	b.fragments.DiscardOlderThan(b.seen.Add(-sweepEvery))
	for k, f := range b.flows {
		if idle := b.cfg.TCPIdle; now-f.Last > idle || f.Proto != TCP && now-f.Last > b.cfg.UDPIdle {
			delete(b.flows, k)
		}
	}
}

func (b *Box) note(e Event) {
	e.Box = b.cfg.Name
	if len(b.events) < maxEvents {
		b.events = append(b.events, e)
	}
}

// Block adds a block from outside: from the box that sees what this one only drops, or from a prober with a verdict.
func (b *Box) Block(block Block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen.IsZero() {
		b.early = append(b.early, early{block, time.Now()})
		return
	}
	b.table.add(b.now+time.Since(b.seen), &block)
}

// Note adds an event from outside, now: a prober's verdict.
func (b *Box) Note(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.At = b.now; !b.seen.IsZero() {
		e.At += time.Since(b.seen)
	}
	b.note(e)
}

// Events returns what fired so far, in order.
func (b *Box) Events() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Event(nil), b.events...)
}

// Stats returns the counters.
func (b *Box) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{b.packets, b.dropped, b.forged, len(b.flows)}
}
