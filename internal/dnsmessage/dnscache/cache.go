// Package dnscache answers DNS questions from memory for as long as the answers' TTL says, and otherwise has them asked,
// each once however many want to know. What it holds is bounded in entries and bytes, and is forgotten when it has
// expired, whether somebody asks again or not.
//
//	question ─ known ──────────────────────────────── answer, aged
//	         ─ expired a while ago, no way to ask ─── answer, stale (RFC 8767)
//	         ─ asked for already ─┬─ Ask ──────────── answer, kept
//	         ─ new ───────────────┘      └─ failed ── stale answer, or the error
package dnscache

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

// Config says what a Cache keeps. Zero values mean what each field says.
type Config struct {
	// Ask has a question answered where nothing is known. Required. It may be called from many goroutines.
	Ask func(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Answer, error)
	// Timeout bounds each call of Ask; 0 means 5 s.
	Timeout time.Duration
	// Entries and Bytes bound what is kept; 0 means 4096, and 4 MiB.
	Entries, Bytes int
	// Asking bounds the questions under way; 0 means 512.
	Asking int
	// MaxAge bounds how long an answer is kept, whatever it says itself; 0 does not.
	MaxAge time.Duration
	// Stale is how long answers are kept after they have expired, for when there is no new one to be had; 0 is not.
	Stale time.Duration
	// Linked reports whether there is a way to ask at the moment; nil means always. Without one, what is stale is given at
	// once.
	Linked func() bool
}

// Cache is a cache of answers. Safe for concurrent use. Close it.
type Cache struct {
	cfg Config

	asked, cached atomic.Uint64
	ctx           context.Context
	cancel        context.CancelFunc
	wg            sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	known   map[dnsmessage.Question]*list.Element // of *entry
	order   list.List                             // the latest used first
	bytes   int
	flights map[dnsmessage.Question]*flight
	sweeper *time.Timer // armed for sweepAt while known is not empty
	sweepAt time.Time
}

type entry struct {
	q      dnsmessage.Question
	answer *dnsmessage.Answer
	since  time.Time
	until  time.Time // it is good; it is kept for Stale longer
}

const (
	overhead = 400 // bytes that an entry takes beside its message, about
	// staleTTL is that of stale answers (RFC 8767, section 5), and patience how long a new one is waited for if there is a
	// stale one.
	staleTTL = 30
	patience = 1800 * time.Millisecond
	// sweepEvery keeps the sweeper from running all the time when answers expire one by one.
	sweepEvery = time.Second
)

// flight is a question under way. It ends when nobody waits for it any more.
type flight struct {
	done    chan struct{} // closed once the rest is set
	answer  *dnsmessage.Answer
	err     error
	waiting int // under the cache's mu
	cancel  context.CancelFunc
}

// Errors of Answer, beside those of Ask.
var (
	ErrClosed = errors.New("the cache is closed")
	ErrBusy   = errors.New("too many questions are being asked")
)

// New returns a Cache that knows nothing.
func New(c Config) *Cache {
	for _, d := range []struct {
		field *int
		def   int
	}{{&c.Entries, 4096}, {&c.Bytes, 4 << 20}, {&c.Asking, 512}} {
		if *d.field == 0 {
			*d.field = d.def
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	k := &Cache{cfg: c, known: make(map[dnsmessage.Question]*list.Element), flights: make(map[dnsmessage.Question]*flight)}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// Stats is how many questions there were, and how many of them were answered from memory.
func (k *Cache) Stats() (asked, cached uint64) { return k.asked.Load(), k.cached.Load() }

// Len is how many answers are kept.
func (k *Cache) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.known)
}

// Answer answers a question, with the time that the answer has spent here.
func (k *Cache) Answer(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Answer, time.Duration, error) {
	k.asked.Add(1)
	var stale *dnsmessage.Answer
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, 0, ErrClosed
	}
	now := time.Now()
	if el := k.known[q]; el != nil {
		e := el.Value.(*entry)
		if now.Before(e.until) {
			k.order.MoveToFront(el)
			k.mu.Unlock()
			k.cached.Add(1)
			return e.answer, now.Sub(e.since), nil
		}
		if now.Before(k.goneAt(e)) {
			stale = e.answer
		}
	}
	f := k.flights[q]
	if f == nil && len(k.flights) >= k.cfg.Asking {
		k.mu.Unlock()
		return k.orStale(stale, ErrBusy)
	}
	if f == nil {
		f = &flight{done: make(chan struct{})}
		var fctx context.Context
		fctx, f.cancel = context.WithTimeout(k.ctx, k.cfg.Timeout)
		k.flights[q] = f
		k.wg.Go(func() { k.fly(fctx, q, f) })
	}
	f.waiting++
	k.mu.Unlock()

	var enough <-chan time.Time
	if stale != nil {
		wait := patience
		if k.cfg.Linked != nil && !k.cfg.Linked() {
			wait = 0
		}
		t := time.NewTimer(wait)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-f.done:
		if stale != nil && (f.err != nil || f.answer.Code == dnsmessage.ServFail) {
			return k.orStale(stale, nil)
		}
		return f.answer, 0, f.err
	case <-enough: // the question goes on, for the next who asks
		return k.orStale(stale, nil)
	case <-ctx.Done():
		k.mu.Lock()
		defer k.mu.Unlock()
		if f.waiting--; f.waiting == 0 {
			f.cancel()
			if k.flights[q] == f {
				delete(k.flights, q) // so that the next to ask does not wait for what was given up
			}
		}
		return nil, 0, ctx.Err()
	}
}

// orStale is the stale answer if there is one.
func (k *Cache) orStale(stale *dnsmessage.Answer, err error) (*dnsmessage.Answer, time.Duration, error) {
	if stale == nil {
		return nil, 0, err
	}
	k.cached.Add(1)
	return stale.Stale(staleTTL), 0, nil
}

func (k *Cache) fly(ctx context.Context, q dnsmessage.Question, f *flight) {
	defer f.cancel()
	a, err := k.cfg.Ask(ctx, q)
	k.mu.Lock()
	defer k.mu.Unlock()
	f.answer, f.err = a, err
	close(f.done)
	if k.flights[q] != f {
		return // given up
	}
	delete(k.flights, q)
	if err == nil && !k.closed {
		k.keepLocked(q, a)
	}
}

// keepLocked remembers an answer in place of an older one. One that says that there was a failure takes the place of none
// that is merely stale.
func (k *Cache) keepLocked(q dnsmessage.Question, a *dnsmessage.Answer) {
	ttl := a.TTL
	if k.cfg.MaxAge > 0 {
		ttl = min(ttl, k.cfg.MaxAge)
	}
	now := time.Now()
	old := k.known[q]
	if ttl <= 0 || old != nil && a.Code == dnsmessage.ServFail && now.Before(k.goneAt(old.Value.(*entry))) {
		return
	}
	if old != nil {
		k.dropLocked(old)
	}
	e := &entry{q: q, answer: a, since: now, until: now.Add(ttl)}
	if e.size() > k.cfg.Bytes {
		return
	}
	k.known[q] = k.order.PushFront(e)
	k.bytes += e.size()
	for k.order.Len() > k.cfg.Entries || k.bytes > k.cfg.Bytes {
		k.dropLocked(k.order.Back())
	}
	if gone := k.goneAt(e); k.sweeper == nil || gone.Before(k.sweepAt) {
		k.sweepByLocked(gone)
	}
}

func (e *entry) size() int { return overhead + e.answer.Len() }

// goneAt is when an entry is forgotten. What there was no answer to is never stale.
func (k *Cache) goneAt(e *entry) time.Time {
	if e.answer.Code == dnsmessage.Success || e.answer.Code == dnsmessage.NXDomain {
		return e.until.Add(k.cfg.Stale)
	}
	return e.until
}

func (k *Cache) dropLocked(el *list.Element) {
	e := el.Value.(*entry)
	k.order.Remove(el)
	delete(k.known, e.q)
	k.bytes -= e.size()
}

func (k *Cache) sweepByLocked(t time.Time) {
	if k.sweeper != nil {
		k.sweeper.Stop()
	}
	k.sweepAt = t
	k.sweeper = time.AfterFunc(time.Until(t), k.sweep)
}

// sweep forgets what has expired, so that no name outlives its time for want of another question.
func (k *Cache) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	next := time.Time{}
	for _, el := range k.known {
		if gone := k.goneAt(el.Value.(*entry)); !now.Before(gone) {
			k.dropLocked(el)
		} else if next.IsZero() || gone.Before(next) {
			next = gone
		}
	}
	k.sweeper = nil
	if next.IsZero() || k.closed {
		return
	}
	if soon := now.Add(sweepEvery); next.Before(soon) {
		next = soon
	}
	k.sweepByLocked(next)
}

// Forget forgets all answers.
func (k *Cache) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forgetLocked()
}

func (k *Cache) forgetLocked() {
	clear(k.known)
	k.order.Init()
	k.bytes = 0
	if k.sweeper != nil {
		k.sweeper.Stop()
		k.sweeper = nil
	}
}

// Close forgets all, ends what is under way and waits for that.
func (k *Cache) Close() {
	k.mu.Lock()
	k.closed = true
	k.forgetLocked()
	k.mu.Unlock()
	k.cancel()
	k.wg.Wait()
}
