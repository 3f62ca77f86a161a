package tcp

import (
	"net"
	"sync"

	"github.com/godwit-vpn/godwit/internal/rawio"
)

// Conn stands between TLS and TCP. Once it carries a link it gathers the records of a batch into one write, takes what
// TCP offers in large reads without keeping a buffer while it waits, and, once told to, never waits in Write. Until then
// it does nothing: how much a server has read when it closes is something that a prober can see.
//
//	tls ── Write ──> held records ── Release ──> TCP
//	                                   └── what does not fit ──> kept ── drain ──> TCP, then drained()
type Conn struct {
	net.Conn
	linked bool        // set while nobody reads or writes
	raw    *rawio.Conn // nil where the system has none

	mu      sync.Mutex
	held    *[]byte // records of the batch under way; nil outside
	kept    []byte  // what TCP did not take, in *keptIn
	keptIn  *[]byte
	full    bool   // something was kept since wasFull asked
	drained func() // nil: Write waits
	err     error  // of an earlier write

	startup startup // its measurer's

	// unread is what was read and not yet asked for, in *readIn. Only the reader uses them.
	unread []byte
	readIn *[]byte
}

// bufferSize holds a batch of the session, sealed: 128 KiB and the records' overhead.
const bufferSize = 144 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferSize); return &b }}

func putBuffer(b *[]byte) {
	if cap(*b) == bufferSize { // one that had to grow is left to the collector
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// Link makes the Conn work for a link from now on. Nobody may be reading or writing.
func (p *Conn) Link() {
	p.linked = true
	p.raw = rawio.New(p.Conn, func() []byte {
		p.readIn = buffers.Get().(*[]byte)
		return (*p.readIn)[:cap(*p.readIn)]
	}, func() {
		putBuffer(p.readIn)
		p.readIn = nil
	})
}

// NonBlocking reports whether OnDrained makes Write return at once: the system lets a descriptor be tried, and there is one
// below.
func (p *Conn) NonBlocking() bool {
	l, ok := p.Conn.(Layer)
	return p.raw != nil || ok && l.NonBlocking()
}

// OnDrained is transport.NonBlocking's. Where NonBlocking is false Write waits all the same.
func (p *Conn) OnDrained(f func()) {
	if l, ok := p.Conn.(Layer); ok {
		l.OnDrained(f)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drained = f
}

// Backlog is transport.NonBlocking's.
func (p *Conn) Backlog() bool {
	if l, ok := p.Conn.(Layer); ok {
		return l.Backlog()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept != nil
}

// NeverWaits reports whether the next Write would return at once.
func (p *Conn) NeverWaits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drained != nil && p.raw != nil && p.err == nil && p.kept == nil
}

// wasFull reports whether TCP has not taken all since it was last asked.
func (p *Conn) wasFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.full || p.kept != nil
	p.full = false
	return was
}

// Hold makes Write gather until Release.
func (p *Conn) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = buffers.Get().(*[]byte)
	}
}

// Release sends what was gathered.
func (p *Conn) Release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.held
	p.held = nil
	if b == nil {
		return p.err
	}
	return p.sendLocked(b)
}

// Write implements net.Conn for TLS. It is also called by TLS's reader, to answer a key update.
func (p *Conn) Write(b []byte) (int, error) {
	if !p.linked {
		return p.Conn.Write(b)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	if p.held != nil {
		*p.held = append(*p.held, b...)
		return len(b), nil
	}
	buf := buffers.Get().(*[]byte)
	*buf = append(*buf, b...)
	if err := p.sendLocked(buf); err != nil {
		return 0, err
	}
	return len(b), nil
}

// sendLocked writes *b, which it owns from now on.
func (p *Conn) sendLocked(b *[]byte) error {
	switch {
	case p.err != nil:
		putBuffer(b)
		return p.err
	case p.kept != nil: // only TLS's own answers come here: a link does not write while there is a backlog
		p.kept = append(p.kept, *b...)
		putBuffer(b)
		return nil
	case p.drained == nil || p.raw == nil:
		return p.waitLocked(b)
	}
	n, err := p.raw.TryWrite(*b)
	if err != nil {
		p.err = err
		putBuffer(b)
		return err
	}
	if n == len(*b) {
		putBuffer(b)
		return nil
	}
	p.kept, p.keptIn, p.full = (*b)[n:], b, true
	go p.drain()
	return nil
}

// waitLocked writes *b and waits. Where the system cannot try, a link's writer waits here, on a goroutine of its own.
func (p *Conn) waitLocked(b *[]byte) error {
	p.mu.Unlock()
	_, err := p.Conn.Write(*b)
	p.mu.Lock()
	putBuffer(b)
	if err != nil {
		p.err = err
	}
	return err
}

// drain writes what is kept, and tells when it is gone.
func (p *Conn) drain() {
	p.mu.Lock()
	for p.err == nil && len(p.kept) > 0 {
		b := p.kept
		p.mu.Unlock()
		n, err := p.Conn.Write(b)
		p.mu.Lock()
		p.kept = p.kept[n:]
		if err != nil {
			p.err = err
		}
	}
	putBuffer(p.keptIn)
	p.kept, p.keptIn = nil, nil
	drained := p.drained
	p.mu.Unlock()
	drained() // after an error too: the next write then fails
}

// Read implements net.Conn for TLS.
func (p *Conn) Read(b []byte) (int, error) {
	if len(p.unread) == 0 {
		if p.raw == nil {
			return p.Conn.Read(b)
		}
		n, err := p.raw.Read()
		if err != nil {
			return 0, err
		}
		p.unread = (*p.readIn)[:n]
	}
	n := copy(b, p.unread)
	if p.unread = p.unread[n:]; len(p.unread) == 0 {
		putBuffer(p.readIn)
		p.unread, p.readIn = nil, nil
	}
	return n, nil
}
