package session

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/shape"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// Role is which end of the session this is. Only the client dials links and opens streams.
type Role uint8

// The two roles.
const (
	Client Role = iota
	Gateway
)

const (
	// DefaultMaxStreams bounds the streams open at once in one session.
	DefaultMaxStreams = 4096
	// DefaultWindow is how many bytes of a new stream are taken before the first WINDOW; a client takes up to four times
	// as many.
	DefaultWindow = 256 << 10
	// DefaultGrace is how long a session without a link keeps all it holds; then it sleeps with MaxSleeperMemory.
	DefaultGrace = 10 * time.Minute
	// DefaultSleep is how long a session is kept without a link.
	DefaultSleep = 12 * time.Hour
	// maxResolves bounds the lookups under way in one session.
	maxResolves = 64
)

// Config is what a session needs to know. Zero values mean the defaults above.
type Config struct {
	Role   Role
	ID     wire.SessionID
	Pool   *Pool // required
	Logger *slog.Logger

	MaxStreams int
	Window     int           // bytes
	Grace      time.Duration // without a link, before sleep
	Sleep      time.Duration // without a link, before the end

	// Shape is what this end does so that handshakes inside of links do not show; see package shape.
	Shape shape.Level
	// Turn is where this session waits for its turn to send, shared with others; nil never waits.
	Turn *Member
	// Accept is called in its own goroutine for every stream the far side opens (gateway only). It answers with
	// Stream.Answer and must end the stream.
	Accept func(*Stream, flow.Target)
	// Resolve answers the far side's RESOLVE (gateway only), in its own goroutine.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	// Packet takes each packet that arrives. It must not block or keep the slice.
	Packet func(packet []byte)
	// Changed is called whenever a link comes, goes, is suspected or recovers, and at the end. It must not block and
	// must not call back into the session.
	Changed func()
}

var (
	errClosed      = &flow.Error{Code: flow.CodeLocalShutdown}
	errMemory      = &flow.Error{Code: flow.CodeMemory}
	errBusy        = &flow.Error{Code: flow.CodeBusy, Detail: "too many streams at once"}
	errStreamEnded = errors.New("stream already closed for writing")
)

// Session is one end of a session. Make one with New, give it links with Attach, end it with Close.
type Session struct {
	cfg    Config
	log    *slog.Logger
	start  time.Time
	ctx    context.Context // ends with the session
	cancel context.CancelFunc

	mu        sync.Mutex
	err       error // why the session ended; nil while it lives
	closing   bool  // CLOSE was queued
	farewell  chan struct{}
	links     []*Link
	strongest *Link // the one that is main although there are older ones; it may be gone
	lastLink  uint64
	// detached is when the last link went; zero while there is one. trimmed: its memory was cut down to a sleeper's.
	detached time.Time
	trimmed  bool
	// leaving: the client opens nothing new here, and it lives until leaveBy at most. leaveIdle is since when there is
	// nothing left to do. See leave.go.
	leaving   bool
	leaveBy   time.Time
	leaveIdle time.Time

	// Streams.
	streams    map[uint32]*Stream
	nextStream uint32 // client: the next id to use
	opened     seqset // gateway: which OPENs have been seen, by id/2
	early      uint32 // client: bytes of a new stream the gateway takes before OPENED

	// Sending.
	ring    ring
	acked   seqset
	control fifo[*frame] // numbered frames of the session and its streams' control
	resend  fifo[*frame]
	packets packetQueue
	fresh   streamList // streams that were silent, served first, once (RFC 8290 §4.2)
	backlog streamList // streams with more to send, in turn
	held    int        // bytes retained: queued or unacknowledged
	memWait fifo[*Stream]

	// Receiving.
	seen       seqset
	reassembly int // bytes held for readers
	lastData   time.Time
	quietPings int // how many times a silence after data was probed

	resolves    map[uint32]chan wire.Resolved
	nextResolve uint32
	resolving   int

	// probeEvery is the learnt interval of idle probes, probeAt when the next one is due (client only).
	probeEvery time.Duration
	probeAt    time.Time

	// shaper is nil if nothing is shaped; heldUntil is when what was held has to go, dummyAt when dummyLen bytes that mean
	// nothing have to; zero if nothing does. See shaping.go.
	shaper             *shape.Shaper
	heldUntil, dummyAt time.Time
	dummyLen           int

	timer   *time.Timer
	timerAt time.Time

	count counters
}

type counters struct {
	streams       uint64 // opened since the start
	sent          uint64 // bytes on links, with all overhead but TLS's
	received      uint64
	resent        uint64 // bytes sent again on another link
	twice         uint64 // bytes sent on two links at once
	suspicions    uint64
	lateDrops     uint64 // packets dropped because they would have come late
	overflowDrops uint64 // packets dropped because 64 KB waited
}

// New makes a session without links.
func New(cfg Config) *Session {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = DefaultMaxStreams
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Sleep == 0 {
		cfg.Sleep = DefaultSleep
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	now := time.Now()
	s := &Session{
		cfg: cfg, log: cfg.Logger, start: now, detached: now,
		streams:    make(map[uint32]*Stream),
		farewell:   make(chan struct{}),
		early:      earlyWindow,
		probeEvery: probeMin,
		shaper:     newShaper(cfg),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.timer = time.AfterFunc(time.Hour, s.tick)
	s.timer.Stop()
	cfg.Pool.add(s)
	s.mu.Lock()
	s.armLocked(now.Add(min(cfg.Grace, cfg.Sleep)))
	s.mu.Unlock()
	return s
}

// farewellLocked ends the wait of Close.
func (s *Session) farewellLocked() {
	select {
	case <-s.farewell:
	default:
		close(s.farewell)
	}
}

// earlyWindow is what a client may send on a stream before it has heard from the gateway how much that takes.
const earlyWindow = 64 << 10

// ID returns the session's id.
func (s *Session) ID() wire.SessionID { return s.cfg.ID }

// Shape returns how much this end shapes.
func (s *Session) Shape() shape.Level { return s.cfg.Shape }

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Context ends with the session.
func (s *Session) Context() context.Context { return s.ctx }

// Err returns why the session ended, nil while it lives.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// SetEarlyWindow sets how many bytes of a new stream the gateway takes before OPENED, as its WELCOME says.
func (s *Session) SetEarlyWindow(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.early = n
}

// Next returns the session's cumulative acknowledgement: every numbered frame below it has arrived.
func (s *Session) Next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.next
}

// Close ends the session at both ends: the far side is told if a link is there to tell it, for at most a second. It
// resets every stream.
func (s *Session) Close(code flow.Code) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	if len(s.links) == 0 {
		s.farewellLocked()
	} else if !s.closing {
		s.closing = true
		s.queueLocked(newControl(wire.AppendClose(nil, code)))
		s.control.moveLastToFront()
		s.kickLocked()
	}
	s.mu.Unlock()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-s.farewell: // it was acknowledged, or there is no link to tell it by
	case <-s.ctx.Done():
	case <-t.C:
	}
	s.end(&flow.Error{Code: code})
}

// end ends this side of the session: links are closed, streams reset, memory given back.
func (s *Session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
}

func (s *Session) endLocked(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.cancel()
	s.timer.Stop()
	s.cfg.Pool.remove(s)
	for _, st := range s.streams {
		st.failLocked(err)
	}
	clear(s.streams)
	for _, l := range s.links {
		l.dead = true
		go l.conn.Close() // a TLS close may wait for a Write, and the lock is held
	}
	s.links = nil
	s.ring.each(func(f *frame) {
		f.acked, f.waiting = true, false
		s.releaseLocked(f)
	})
	s.ring = ring{}
	for f := range s.control.all() {
		s.uncharge(f)
	}
	s.control, s.resend, s.memWait = fifo[*frame]{}, fifo[*frame]{}, fifo[*Stream]{}
	s.packets = packetQueue{}
	for _, ch := range s.resolves {
		close(ch)
	}
	s.resolves = nil
	s.changedLocked()
}

func (s *Session) changedLocked() {
	if s.cfg.Changed != nil {
		s.cfg.Changed()
	}
}

// Open opens a stream to t (client only). With early set it returns at once; otherwise it waits for the gateway's
// answer. It implements flow.Opener.
func (s *Session) Open(ctx context.Context, t flow.Target, early bool) (flow.Stream, error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	if s.leaving {
		s.mu.Unlock()
		return nil, ErrLeaving
	}
	if len(s.streams) >= s.cfg.MaxStreams {
		s.mu.Unlock()
		return nil, errBusy
	}
	st := s.newStreamLocked(s.nextStream, s.firstWindowLocked())
	s.nextStream += 2
	st.target = t
	st.sendMax = uint64(s.early)
	s.count.streams++
	s.queueLocked(newControl(wire.AppendOpen(nil, wire.Open{Stream: st.id, Window: uint32(st.window), Target: t})))
	if !early || !s.holdLocked() {
		s.flushLocked()
	}
	s.mu.Unlock()
	if early {
		return st, nil
	}
	select {
	case <-st.answered:
		if err := st.failure(); err != nil {
			return nil, err
		}
		return st, nil
	case <-ctx.Done():
		st.Reset(flow.CodeReset)
		return nil, &flow.Error{Code: flow.CodeTimeout, Detail: "the gateway did not answer in time"}
	}
}

// Resolve looks name up at the gateway (client only). It implements flow.Resolver.
func (s *Session) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if name == "" || len(name) > flow.MaxHost {
		return nil, flow.Errorf(flow.CodeBadTarget, "a name of %d bytes cannot be looked up", len(name))
	}
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	if s.leaving {
		s.mu.Unlock()
		return nil, ErrLeaving
	}
	if len(s.resolves) >= maxResolves {
		s.mu.Unlock()
		return nil, &flow.Error{Code: flow.CodeBusy, Detail: "too many lookups at once"}
	}
	if s.resolves == nil {
		s.resolves = make(map[uint32]chan wire.Resolved)
	}
	id := s.nextResolve
	s.nextResolve++
	ch := make(chan wire.Resolved, 1) // the reader that fills it must not wait for us
	s.resolves[id] = ch
	s.queueLocked(newControl(wire.AppendResolve(nil, wire.Resolve{ID: id, Name: name})))
	s.flushLocked()
	s.mu.Unlock()
	select {
	case r, ok := <-ch:
		switch {
		case !ok:
			return nil, s.Err()
		case r.Code != flow.CodeNone:
			return nil, &flow.Error{Code: r.Code}
		case len(r.Addrs) == 0:
			return nil, &flow.Error{Code: flow.CodeNameNotFound}
		}
		return r.Addrs, nil
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.resolves, id)
		s.mu.Unlock()
		return nil, &flow.Error{Code: flow.CodeTimeout, Detail: "the name's lookup took too long"}
	}
}

// resolveFor answers a RESOLVE.
func (s *Session) resolveFor(r wire.Resolve) {
	ctx, cancel := context.WithTimeout(s.ctx, 15*time.Second)
	defer cancel()
	addrs, err := s.cfg.Resolve(ctx, r.Name)
	if err != nil {
		addrs = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolving--
	if s.err == nil {
		s.queueLocked(newControl(wire.AppendResolved(nil, wire.Resolved{ID: r.ID, Code: flow.CodeOf(err), Addrs: addrs})))
		s.kickLocked()
	}
}
