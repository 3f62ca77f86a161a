package pageload

import (
	"encoding/binary"
	"io"
	"net"
	"sort"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

const (
	mss = 1448
	// headKept is how much of a packet's payload a watcher keeps: rules read records' headers.
	headKept = 24
	// socketBuffer is what a direction holds unsent before a link takes no more. Others never wait: in simulated time
	// nobody may wait for a lock that a sleeper holds, as TLS's writers would.
	socketBuffer = 64 << 10
)

// path is what a connection crosses.
type path struct {
	delay time.Duration // one way
	rate  float64       // bytes a second, each way
}

// packet is what a watcher next to the client sees of one packet with a payload.
type packet struct {
	at   time.Duration
	up   bool
	size int
	head []byte
}

// tap is the watcher's notes of one connection.
type tap struct {
	mu      sync.Mutex
	began   time.Time
	delay   time.Duration
	packets []packet
	up      int // bytes
	down    int
}

func (t *tap) see(at time.Time, up bool, b []byte) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if up {
		t.up += len(b)
	} else {
		t.down += len(b)
	}
	if len(t.packets) > 4000 {
		return
	}
	t.packets = append(t.packets, packet{at.Sub(t.began), up, len(b), append([]byte(nil), b[:min(len(b), headKept)]...)})
}

// pkts are the packets in the order in which they passed.
func (t *tap) pkts() []packet {
	t.mu.Lock()
	defer t.mu.Unlock()
	sort.SliceStable(t.packets, func(i, j int) bool { return t.packets[i].at < t.packets[j].at })
	return t.packets
}

// way is one direction of a simulated connection.
type way struct {
	path
	up  bool
	tap *tap

	mu      sync.Mutex
	changed chan struct{}
	queue   []segment
	out     time.Time // when all that was written will have left
	ended   bool
}

type segment struct {
	data []byte
	at   time.Time
}

func (w *way) changedLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// put sends p and reports for how long the socket's buffer is over full then.
func (w *way) put(p []byte) (over time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return 0, net.ErrClosed
	}
	if now := time.Now(); w.out.Before(now) {
		w.out = now
	}
	for b := p; len(b) > 0; {
		n := min(len(b), mss)
		w.out = w.out.Add(time.Duration(float64(n) / w.rate * float64(time.Second)))
		seen := w.out
		if !w.up {
			seen = seen.Add(w.delay)
		}
		w.tap.see(seen, w.up, b[:n])
		w.queue = append(w.queue, segment{append([]byte(nil), b[:n]...), w.out.Add(w.delay)})
		b = b[n:]
	}
	w.changedLocked()
	return time.Until(w.out) - time.Duration(socketBuffer/w.rate*float64(time.Second)), nil
}

func (w *way) read(p []byte, closed <-chan struct{}) (int, error) {
	for {
		w.mu.Lock()
		changed, wait := w.changed, time.Duration(-1)
		if len(w.queue) > 0 {
			if wait = time.Until(w.queue[0].at); wait <= 0 {
				n := 0
				for n < len(p) && len(w.queue) > 0 && time.Until(w.queue[0].at) <= 0 {
					seg := &w.queue[0]
					m := copy(p[n:], seg.data)
					n += m
					if seg.data = seg.data[m:]; len(seg.data) == 0 {
						w.queue = w.queue[1:]
					}
				}
				w.mu.Unlock()
				return n, nil
			}
		} else if w.ended {
			w.mu.Unlock()
			return 0, io.EOF
		}
		w.mu.Unlock()
		var due <-chan time.Time
		if wait > 0 {
			t := time.NewTimer(wait)
			defer t.Stop()
			due = t.C
		}
		select {
		case <-changed:
		case <-due:
		case <-closed:
			return 0, net.ErrClosed
		}
	}
}

func (w *way) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.ended = true
		w.changedLocked()
	}
}

// end is one end of a simulated TCP connection. While held it gathers what is written.
type end struct {
	in, out *way
	once    sync.Once
	closed  chan struct{}

	mu      sync.Mutex
	holding bool
	held    []byte
	drained func() // set: Write does not wait
	full    bool
}

// connect makes a connection, which takes a round trip if somebody watches it or not.
func connect(p path, t *tap) (client, server *end) {
	if t != nil {
		t.began, t.delay = time.Now(), p.delay
	}
	time.Sleep(2 * p.delay)
	up := &way{path: p, up: true, tap: t, changed: make(chan struct{})}
	down := &way{path: p, tap: t, changed: make(chan struct{})}
	return &end{in: down, out: up, closed: make(chan struct{})}, &end{in: up, out: down, closed: make(chan struct{})}
}

func (e *end) Read(p []byte) (int, error) { return e.in.read(p, e.closed) }

func (e *end) Write(p []byte) (int, error) {
	e.mu.Lock()
	if e.holding {
		e.held = append(e.held, p...)
		e.mu.Unlock()
		return len(p), nil
	}
	e.mu.Unlock()
	return len(p), e.send(p)
}

func (e *end) send(p []byte) error {
	over, err := e.out.put(p)
	if err != nil || over <= 0 {
		return err
	}
	e.mu.Lock()
	drained := e.drained
	e.full = drained != nil
	e.mu.Unlock()
	if drained == nil {
		return nil
	}
	go func() {
		t := time.NewTimer(over)
		defer t.Stop()
		select {
		case <-t.C:
		case <-e.closed:
			return
		}
		e.mu.Lock()
		e.full = false
		e.mu.Unlock()
		drained()
	}()
	return nil
}

// CloseWrite ends one direction.
func (e *end) CloseWrite() error { e.out.end(); return nil }

func (e *end) Close() error {
	e.once.Do(func() {
		close(e.closed)
		e.out.end()
		e.in.end()
	})
	return nil
}

type noAddr struct{}

func (noAddr) Network() string { return "sim" }
func (noAddr) String() string  { return "sim" }

func (e *end) LocalAddr() net.Addr              { return noAddr{} }
func (e *end) RemoteAddr() net.Addr             { return noAddr{} }
func (e *end) SetDeadline(time.Time) error      { return nil }
func (e *end) SetReadDeadline(time.Time) error  { return nil }
func (e *end) SetWriteDeadline(time.Time) error { return nil }

// frames are the Ethernet frames of a connection for a firewall's box, with the handshake and the server's
// acknowledgements, most at most.
func (t *tap) frames(port uint16, most int) []frame {
	var events []packet
	for _, p := range t.pkts()[:min(len(t.packets), most)] {
		events = append(events, p)
		if p.up {
			events = append(events, packet{at: p.at + 2*t.delay})
		}
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].at < events[j].at })
	var out []frame
	seq := [2]uint32{1, 1} // the client's, the server's, after the handshake
	add := func(at time.Duration, up bool, flags uint8, s, a uint32, head []byte, size int) {
		out = append(out, frame{at, up, ethernet(up, port, flags, s, a, head, size)})
	}
	add(0, true, firewall.SYN, 0, 0, nil, 0)
	add(2*t.delay, false, firewall.SYN|firewall.ACK, 0, 1, nil, 0)
	add(2*t.delay, true, firewall.ACK, 1, 1, nil, 0)
	for i, e := range events {
		acked := seq[1]
		mine := &seq[0]
		if !e.up {
			mine = &seq[1]
			acked = 1
			for _, before := range events[:i] { // what had arrived there when this was sent
				if before.up && before.at <= e.at-2*t.delay {
					acked += uint32(before.size)
				}
			}
		}
		add(e.at, e.up, firewall.PSH|firewall.ACK, *mine, acked, e.head, e.size)
		*mine += uint32(e.size)
	}
	return out
}

type frame struct {
	at   time.Duration
	up   bool
	data []byte
}

// ethernet makes a frame whose payload has zeros after its head.
func ethernet(up bool, port uint16, flags uint8, seq, ack uint32, head []byte, size int) []byte {
	b := make([]byte, 14+20+20+size)
	client, server := []byte{192, 0, 2, 1}, []byte{198, 51, 100, 1}
	b[0], b[6], b[12], b[13] = 2, 2, 8, 0
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, firewall.TCP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	tcp := ip[20:]
	if up {
		b[5], b[11] = 2, 1
		copy(ip[12:], client)
		copy(ip[16:], server)
		binary.BigEndian.PutUint16(tcp, port)
		binary.BigEndian.PutUint16(tcp[2:], 443)
	} else {
		b[5], b[11] = 1, 2
		copy(ip[12:], server)
		copy(ip[16:], client)
		binary.BigEndian.PutUint16(tcp, 443)
		binary.BigEndian.PutUint16(tcp[2:], port)
	}
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	copy(tcp[20:], head)
	return b
}
