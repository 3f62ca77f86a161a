package topology

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Side is one of a firewall's two.
type Side int

// The sides.
const (
	Inside Side = iota
	Outside
)

// Capture takes down every frame that passes one side of a firewall: what arrives there, before the Box sees it, and
// what leaves, when it leaves.
type Capture struct {
	side Side
	from *wires

	mu      sync.Mutex
	stopped bool
	ring    []record // the last frames; nil when w takes them
	next    int
	w       *pcapgo.Writer
	err     error
}

type record struct {
	at    time.Time
	frame []byte
}

// wires are the captures of a firewall.
type wires struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*Capture] // replaced under mu, read by two threads for each frame
}

func (w *wires) tap(at time.Time, first, _ bool, frame []byte) {
	list := w.list.Load()
	if list == nil {
		return
	}
	for _, c := range *list {
		if first == (c.side == Inside) {
			c.take(at, frame)
		}
	}
}

func (w *wires) change(f func([]*Capture) []*Capture) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*Capture
	if old := w.list.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = f(list)
	w.list.Store(&list)
}

// CaptureLast keeps the last count frames in memory until Stop; Save writes them.
func (n *Net) CaptureLast(firewall string, side Side, count int) (*Capture, error) {
	if count < 1 {
		return nil, fmt.Errorf("capture at %s: count %d keeps nothing", firewall, count)
	}
	return n.capture(firewall, &Capture{side: side, ring: make([]record, 0, count)})
}

// CaptureTo writes all frames to w as a pcap file until Stop. The firewall waits for w, which had
// better be a bufio.Writer.
func (n *Net) CaptureTo(firewall string, side Side, w io.Writer) (*Capture, error) {
	c := &Capture{side: side}
	var err error
	if c.w, err = pcapWriter(w); err != nil {
		return nil, err
	}
	return n.capture(firewall, c)
}

func (n *Net) capture(firewall string, c *Capture) (*Capture, error) {
	f, err := n.firewall(firewall)
	if err != nil {
		return nil, err
	}
	c.from = &f.wires
	c.from.change(func(list []*Capture) []*Capture { return append(list, c) })
	return c, nil
}

func pcapWriter(w io.Writer) (*pcapgo.Writer, error) {
	p := pcapgo.NewWriterNanos(w)
	return p, p.WriteFileHeader(1<<16, layers.LinkTypeEthernet)
}

func (c *Capture) take(at time.Time, frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped || c.err != nil:
	case c.w != nil:
		c.err = write(c.w, record{at, frame})
	case len(c.ring) < cap(c.ring):
		c.ring = append(c.ring, record{at, slices.Clone(frame)})
	default:
		r := &c.ring[c.next]
		r.at, r.frame = at, append(r.frame[:0], frame...)
		c.next = (c.next + 1) % len(c.ring)
	}
}

func write(w *pcapgo.Writer, r record) error {
	return w.WritePacket(gopacket.CaptureInfo{Timestamp: r.at, CaptureLength: len(r.frame), Length: len(r.frame)}, r.frame)
}

// Stop ends the capture and returns the first error of CaptureTo's writer, which is not used any more. It may be called
// again.
func (c *Capture) Stop() error {
	c.from.change(func(list []*Capture) []*Capture {
		return slices.DeleteFunc(list, func(other *Capture) bool { return other == c })
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true // a thread may still have the older list
	return c.err
}

// Save writes what CaptureLast keeps as a pcap file, oldest first.
func (c *Capture) Save(w io.Writer) error {
	p, err := pcapWriter(w)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	records := slices.Clone(c.ring)
	// The two directions are two threads, each a little behind.
	slices.SortStableFunc(records, func(a, b record) int { return a.at.Compare(b.at) })
	for _, r := range records {
		err = errors.Join(err, write(p, r))
	}
	return err
}
