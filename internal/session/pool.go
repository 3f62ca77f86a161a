package session

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxSessionMemory bounds what one attached session retains and reassembles, in bytes.
	MaxSessionMemory = 32 << 20
	// MaxSleeperMemory bounds what one sleeping session retains, in bytes.
	MaxSleeperMemory = 256 << 10
	// frameCost is charged for every retained frame beside its bytes, so that many tiny frames are not free.
	frameCost = 256
)

// Pool owns the memory of every session in the process: retained frames and reassembled bytes. When it fills, windows
// shrink; when it is full, sleepers are cut down to MaxSleeperMemory and then reset, the one that has slept longest
// first. Safe for concurrent use.
type Pool struct {
	limit     int64
	used      atomic.Int64
	relieving atomic.Bool
	relieved  atomic.Int64 // when relieve last ended, in nanoseconds since began; long ago at first
	began     time.Time

	mu       sync.Mutex
	sessions map[*Session]struct{}
}

// NewPool makes a pool of limit bytes.
func NewPool(limit int64) *Pool {
	return &Pool{limit: limit, began: time.Now().Add(-time.Hour), sessions: make(map[*Session]struct{})}
}

// Used returns the bytes in use.
func (p *Pool) Used() int64 { return p.used.Load() }

// Limit returns the bytes that may be used.
func (p *Pool) Limit() int64 { return p.limit }

// charge adds n bytes, which may be negative. It never fails: the bounds are kept by those who call it, and once the
// pool is nearly full, sleepers pay.
func (p *Pool) charge(n int) {
	if p.used.Add(int64(n)) > p.limit-p.limit/16 && n > 0 {
		p.askRelief()
	}
}

// relieveEvery spaces out attempts that may find nobody to pay.
const relieveEvery = 50 * time.Millisecond

// askRelief has relieve run soon. The caller may hold a session's lock: relieve takes them one by one.
func (p *Pool) askRelief() {
	if time.Since(p.began)-time.Duration(p.relieved.Load()) < relieveEvery || !p.relieving.CompareAndSwap(false, true) {
		return
	}
	go func() {
		p.relieve()
		p.relieved.Store(int64(time.Since(p.began)))
		p.relieving.Store(false)
	}()
}

// free is how many bytes are left, at least 0.
func (p *Pool) free() int { return int(max(0, p.limit-p.used.Load())) }

func (p *Pool) add(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[s] = struct{}{}
}

func (p *Pool) remove(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
}

// relieve frees memory until an eighth of the pool is free or no sleeper is left to pay.
func (p *Pool) relieve() {
	type sleeper struct {
		s     *Session
		since time.Time
	}
	var sleepers []sleeper
	p.mu.Lock()
	all := make([]*Session, 0, len(p.sessions))
	for s := range p.sessions {
		all = append(all, s)
	}
	p.mu.Unlock()
	for _, s := range all {
		if since, asleep := s.asleep(); asleep {
			sleepers = append(sleepers, sleeper{s, since})
		}
	}
	slices.SortFunc(sleepers, func(a, b sleeper) int { return a.since.Compare(b.since) })
	enough := func() bool { return p.used.Load() < p.limit-p.limit/8 }
	for _, sl := range sleepers {
		if enough() {
			return
		}
		sl.s.trim()
	}
	for _, sl := range sleepers {
		if enough() {
			return
		}
		sl.s.end(errMemory)
	}
}

// Buffers come in the sizes that chunks have (see chunkLocked) and smaller: a keystroke should not retain a chunk's worth.
var bufferSizes = [...]int{1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10}

var bufferPools [len(bufferSizes)]sync.Pool

// getBuffer returns a buffer of at least n bytes, n at most 64 KiB. Its capacity tells putBuffer where it belongs.
func getBuffer(n int) []byte {
	for i, size := range bufferSizes {
		if n <= size {
			if b, ok := bufferPools[i].Get().(*[]byte); ok {
				return (*b)[:n]
			}
			return make([]byte, size)[:n]
		}
	}
	return make([]byte, n)
}

// putBuffer gives back what getBuffer returned; the caller keeps no slice of it.
func putBuffer(b []byte) {
	for i, size := range bufferSizes {
		if cap(b) == size {
			b = b[:size]
			bufferPools[i].Put(&b)
			return
		}
	}
}
