// Package prober is the lab's active prober: it speaks to a server that a firewall suspects, and to a plain web server,
// in all the ways in which censors have been seen to, and says what the server gives away. What it finds feeds the
// firewall's block list through a callback.
//
//	firewall ─ Suspect ─ wait ─┬─ probe ─ the suspect ─ Answer ─┬─ same? ─ Verdict ─ firewall
//	                           └─ probe ─ the control ─ Answer ─┘
//
// The probes are in files by family, and All lists them; what they send to both servers is the same to the byte. What
// follows from the answers is in verdict.go. Sources are named as in the lab's reference of censors' behaviours: B2 is
// Alice et al., IMC 2020; B3 Frolov et al., NDSS 2020; B4 Xue et al., USENIX Security 2022; B7 what is known of Tor
// and obfs4; B11 Aparecium and XTLS/REALITY#28.
package prober

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Suspect is a server that a firewall wants to know more about.
type Suspect struct {
	Network string // "tcp" or "udp"
	Addr    netip.AddrPort
	Why     string // which rule suspects it
	// Client and Server are the first payloads that were seen in a user's flow, packet by packet, in each direction. What
	// replays something is left out where Client is empty.
	Client [][]byte
	Server [][]byte
}

// Config is what a Prober needs. Zero values mean what each field says.
type Config struct {
	// Control is a plain web server of the kind that the suspect may be. Required; it is asked by UDP, too.
	Control netip.AddrPort
	// Bare is the same without TLS, for suspects on TCP port 80; the zero value compares those with Control too.
	Bare netip.AddrPort
	// Sources are the prober's addresses; each probe comes from one of them. Empty leaves it to Dial.
	Sources []netip.Addr
	// Dial connects from a source, which is the zero Addr without Sources. Nil means this process's own network. A TCP
	// connection must have CloseWrite.
	Dial func(ctx context.Context, network string, from netip.Addr, to netip.AddrPort) (net.Conn, error)

	// Scale multiplies all waits before probes; 1 is real time. Required, so that a shortened schedule is on purpose.
	Scale float64
	// Longest bounds such a wait, before Scale; 0 means the longest that was measured, 570 hours.
	Longest time.Duration
	// Replays is how often the first payload is sent again as it was, at most MaxReplays; 0 means once. How many a censor
	// sends to one server varies, and is not known to follow a rule.
	Replays int
	// Patience is how long a server is given to answer or to close; 0 means 12 s, longer than common handshake timeouts.
	Patience time.Duration
	// Tries is how often in all a probe with unlike answers is tried before they count, each with more patience; 0 means 6:
	// the answers of Go's HTTP/2 server race each other.
	Tries int
	// Parallel is how many probes are under way at once; 0 means 4.
	Parallel int
	// Seed makes what is drawn (waits, sources, random bytes) the same every time.
	Seed uint64

	// Report, unless nil, is told what came of each Suspect, from Run's goroutines.
	Report func(*Report)
}

const (
	httpPort = 80

	// MaxReplays is the most often that one payload has been seen again (B2).
	MaxReplays = 47

	defaultPatience = 12 * time.Second
	defaultTries    = 6
	defaultParallel = 4

	// rest is how long, before Scale, a server that was probed is left alone: Tor bridges are looked at again after this
	// long (B7).
	rest = 12 * time.Hour
	// maxKnown bounds what is remembered of servers.
	maxKnown = 4096
	// queued is how many suspects may wait: enough for a burst of a scenario's flows, since Suspect must not block.
	queued = 64
	// atOnce is how many suspects Run looks at at once.
	atOnce = 4
)

// Prober probes suspects. Its methods may be called concurrently.
type Prober struct {
	cfg   Config
	queue chan Suspect

	mu    sync.Mutex
	known map[string]time.Time // until when a server is left alone; the zero time while it waits or is probed
}

// New makes a Prober; Run brings it to life.
func New(cfg Config) (*Prober, error) {
	switch {
	case !cfg.Control.IsValid():
		return nil, errors.New("field Control: is empty: give the address of a plain web server")
	case !(cfg.Scale > 0):
		return nil, fmt.Errorf("field Scale: %v is not above 0: 1 waits as long as censors do", cfg.Scale)
	case cfg.Replays < 0 || cfg.Replays > MaxReplays:
		return nil, fmt.Errorf("field Replays: %d is not from 0 to %d", cfg.Replays, MaxReplays)
	case cfg.Longest < 0 || cfg.Patience < 0 || cfg.Tries < 0 || cfg.Parallel < 0:
		return nil, errors.New("fields Longest, Patience, Tries, Parallel: one is negative: 0 means its default")
	}
	orDefault(&cfg.Longest, longestDelay)
	orDefault(&cfg.Patience, defaultPatience)
	orDefault(&cfg.Tries, defaultTries)
	orDefault(&cfg.Parallel, defaultParallel)
	orDefault(&cfg.Replays, 1)
	if cfg.Dial == nil {
		cfg.Dial = dial
	}
	return &Prober{cfg: cfg, queue: make(chan Suspect, queued), known: make(map[string]time.Time)}, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func dial(ctx context.Context, network string, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	switch {
	case from.IsValid() && network == "tcp":
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	case from.IsValid():
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, network, to.String())
}

// Suspect has a server probed by Run, unless that is under way or was done lately, or too many wait. It does not block.
// It keeps the payloads: they must not change any more.
func (p *Prober) Suspect(s Suspect) (taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, now := s.id(), time.Now()
	rests := func(until time.Time) bool { return until.IsZero() || now.Before(until) }
	if len(p.known) >= maxKnown {
		maps.DeleteFunc(p.known, func(_ string, until time.Time) bool { return !rests(until) })
	}
	until, known := p.known[id]
	if known && rests(until) || len(p.known) >= maxKnown {
		return false
	}
	select {
	case p.queue <- s:
		p.known[id] = time.Time{}
		return true
	default:
		return false
	}
}

func (s Suspect) id() string { return s.Network + " " + s.Addr.String() }

// Run probes what Suspect is given until ctx is done, and returns nil then.
func (p *Prober) Run(ctx context.Context) error {
	var g errgroup.Group
	for range atOnce {
		g.Go(func() error {
			for {
				select {
				case s := <-p.queue:
					r, err := p.Probe(ctx, s)
					p.mu.Lock()
					p.known[s.id()] = time.Now().Add(scaled(rest, p.cfg.Scale))
					p.mu.Unlock()
					if err == nil && p.cfg.Report != nil {
						p.cfg.Report(r)
					}
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	return g.Wait()
}

// Probe sends a suspect and the control all probes and says what came of it. Its only error is ctx's, or that the suspect
// is of no known network.
func (p *Prober) Probe(ctx context.Context, s Suspect) (*Report, error) {
	if s.Network != "tcp" && s.Network != "udp" {
		return nil, fmt.Errorf("field Network: %q is neither tcp nor udp", s.Network)
	}
	r := &Report{Schema: schema, Network: s.Network, Suspect: s.Addr, Control: p.control(s), Why: s.Why,
		Seen: describe(bytes.Join(s.Server, nil)), Scale: p.cfg.Scale, Seed: p.cfg.Seed, server: s.Server}
	// Some probes follow only on an answer to others (B2).
	var first, staged []*Result
	for _, probe := range All() {
		k := probe.Kind()
		if k.Network != s.Network {
			continue
		}
		times := 1
		if k.Name == identical {
			times = p.cfg.Replays
		}
		for n := range times {
			res := &Result{Probe: k.Name, Family: k.Family, kind: k, probe: probe}
			if n > 0 {
				res.Probe = fmt.Sprintf("%s, time %d", k.Name, n+1)
			}
			if k.Delayed {
				res.wait = min(Delay(p.random("wait "+res.Probe, 0)), p.cfg.Longest)
				res.Wait = res.wait.Seconds()
			}
			r.Results = append(r.Results, res)
			if k.Staged {
				staged = append(staged, res)
			} else {
				first = append(first, res)
			}
		}
	}
	if err := p.all(ctx, s, first, 0); err != nil {
		return nil, err
	}
	answered := slices.ContainsFunc(first, func(res *Result) bool {
		return (res.kind.Name == identical || res.kind.Name == byteChanged) && res.Suspect.Bytes > 0
	})
	if answered {
		if err := p.all(ctx, s, staged, 0); err != nil {
			return nil, err
		}
	} else {
		for _, res := range staged {
			res.Suspect = notSent("no replay was answered")
			res.Control = res.Suspect
			res.Same = true
		}
	}
	// A slow machine, or a server whose answers race each other, is not another server. One that is unlike in most is.
	for try := 1; try < p.cfg.Tries; try++ {
		unlike := slices.DeleteFunc(slices.Clone(r.Results), func(res *Result) bool { return res.Same })
		if len(unlike)*2 > len(r.Results) {
			unlike = nil
		}
		if e := (&evidence{all: r.Results}); e.borrowed() { // a comparison of its own
			unlike = slices.DeleteFunc(unlike, func(res *Result) bool { return res.Family == floodFamily })
			unlike = append(unlike, e.of(floodOwn), e.of(floodStranger))
		}
		if err := p.all(ctx, s, unlike, try); err != nil {
			return nil, err
		}
	}
	r.Verdict = judge(r)
	return r, nil
}

// control is the server that a suspect is compared with.
func (p *Prober) control(s Suspect) netip.AddrPort {
	if s.Addr.Port() == httpPort && s.Network == "tcp" && p.cfg.Bare.IsValid() {
		return p.cfg.Bare
	}
	return p.cfg.Control
}

// all sends probes, each after its wait in the first try, and fills in the results.
func (p *Prober) all(ctx context.Context, s Suspect, results []*Result, try int) error {
	var wg sync.WaitGroup
	places := make(chan struct{}, p.cfg.Parallel) // so many are under way at once
	for _, res := range results {
		wg.Go(func() {
			if try == 0 && !sleep(ctx, scaled(res.wait, p.cfg.Scale)) {
				return
			}
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-places }()
			p.send(ctx, s, res, try)
		})
	}
	wg.Wait()
	return ctx.Err()
}

// send sends one probe to both.
func (p *Prober) send(ctx context.Context, s Suspect, res *Result, try int) {
	var from netip.Addr
	if n := len(p.cfg.Sources); n > 0 {
		from = p.cfg.Sources[p.random("source "+res.Probe, try).IntN(n)]
	}
	ask := func(to netip.AddrPort) Answer {
		began := time.Now()
		a := res.probe.Send(ctx, &Target{
			Network: s.Network, Addr: to, Recorded: s.Client, Beyond: p.cfg.Control,
			Patience: p.cfg.Patience << min(try, 3),
			Rand:     p.random(res.Probe, try), // the same bytes for both
			dial: func(ctx context.Context) (net.Conn, error) {
				return p.cfg.Dial(ctx, s.Network, from, to)
			},
		})
		a.Took = float64(time.Since(began).Microseconds()) / 1000
		return a
	}
	var control Answer
	var wg sync.WaitGroup
	wg.Go(func() { control = ask(p.control(s)) })
	suspect := ask(s.Addr)
	wg.Wait()
	res.Tries = try + 1
	res.Suspect, res.Control = suspect, control
	res.pairs = append(res.pairs, [2]Answer{suspect, control})
	// The same, if the control has ever answered as the suspect has.
	for _, a := range res.pairs {
		for _, b := range res.pairs {
			if a[0].like(b[1]) {
				res.Same, res.Suspect, res.Control = true, a[0], b[1]
			}
		}
	}
}

// random is a source of randomness that only the seed and what it is for decide.
func (p *Prober) random(what string, try int) *rand.Rand {
	b := binary.BigEndian.AppendUint64(nil, p.cfg.Seed)
	return rand.New(rand.NewChaCha8(sha256.Sum256(append(b, fmt.Sprint(try, what)...))))
}

func scaled(d time.Duration, scale float64) time.Duration { return time.Duration(float64(d) * scale) }

// sleep reports whether it slept through.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
