package scenario

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/prober"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// The plain web server that suspects are compared with, and a second of the same kind: what comes of probing that is what
// may come of probing a gateway.
var (
	controlAddr = netip.MustParseAddrPort("198.51.100.60:443")
	twinAddr    = netip.MustParseAddrPort("198.51.100.60:8443")
)

// How suspects are probed.
const (
	// leastDelay is how soon a replay was ever seen (Alice et al., IMC 2020), and time enough for the server's answer.
	leastDelay = 280 * time.Millisecond
	// patience is more than any of the lab's servers takes to answer at 60 ms, and less than the time after which they
	// close whatever came.
	patience = 2 * time.Second
	parallel = 24
	// soon is the longest wait before a probe in the scenario probe, whose verdict does not hang on it.
	soon = 2 * time.Second
	// usedFor is how long the scenario probe tries to use a gateway, and probedFor how long it then waits for a verdict. To find
	// out after how many bytes a server of plain HTTP answers takes a minute: it waits for the end of a line.
	usedFor   = 15 * time.Second
	probedFor = 5 * time.Minute
)

// server is a server as the prober knows it.
type server struct {
	network string // "tcp" or "udp"
	addr    netip.AddrPort
}

func (s server) String() string { return fmt.Sprintf("%s %d", s.network, s.addr.Port()) }

// inquiry is a country's prober with what it knows and found.
type inquiry struct {
	prober  *prober.Prober // keeps the profile's time
	quick   *prober.Prober // the scenario's
	control *pages

	mu      sync.Mutex
	reports map[server]*prober.Report
	news    chan struct{} // closed with each report, and then another one
}

// inquire starts the profile's prober, if it has one: it gets the rules' suspects, and what it unmasks is blocked.
func (c *country) inquire(ctx context.Context, seed uint64) error {
	p := c.profile.Probe
	if p == nil {
		return nil
	}
	q := &inquiry{control: new(pages), reports: make(map[server]*prober.Report), news: make(chan struct{})}
	c.inquiry = q
	certPEM, keyPEM, err := peer.SelfSigned(allowed)
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return err
	}
	// Until something else is known, the kind is that of the allowed site: those that borrow a handshake borrow its.
	site := traffic.Website(allowed)
	q.control.set(peer.Face{Pages: site, Bare: site,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }})
	conf := &tls.Config{GetCertificate: q.control.certificate}
	for _, at := range []netip.AddrPort{controlAddr, twinAddr} {
		http80 := uint16(80)
		if at == twinAddr {
			http80 = 8080
		}
		pages, bare := http.HandlerFunc(q.control.secure), http.HandlerFunc(q.control.bare)
		if err := c.serve(ctx, c.host("plain"), pages, bare, conf.Clone(), at, http80); err != nil {
			return err
		}
	}
	delay, longest := p.Delay, time.Duration(0) // zero is the distribution's
	if delay.High == 0 {
		delay.Low = leastDelay
	} else {
		longest = max(delay.High-delay.Low, 1)
	}
	cfg := prober.Config{Control: controlAddr, Bare: netip.AddrPortFrom(controlAddr.Addr(), 80), Scale: 1, Longest: longest,
		Patience: patience, Parallel: parallel, Seed: seed, Report: c.judged,
		Dial: func(ctx context.Context, network string, _ netip.Addr, to netip.AddrPort) (net.Conn, error) {
			return c.host("prober").DialContext(ctx, network, to.String())
		}}
	if q.prober, err = prober.New(cfg); err != nil {
		return err
	}
	cfg.Longest = soon
	if q.quick, err = prober.New(cfg); err != nil {
		return err
	}
	c.run("the prober", func() error { return q.prober.Run(ctx) })
	c.run("the suspects", func() error {
		var waiting sync.WaitGroup
		defer waiting.Wait()
		known := make(map[server]bool)
		for {
			select {
			case s := <-c.suspects:
				id := server{network(s.Proto), s.Server}
				if known[id] || id.network == "" {
					continue
				}
				known[id] = true
				waiting.Go(func() {
					if sleep(ctx, delay.Low) == nil {
						q.prober.Suspect(c.suspect(id, s.Rule+": "+s.Why, cmp.Or(string(s.Sent), string(s.First))))
					}
				})
			case <-ctx.Done():
				return nil
			}
		}
	})
	return nil
}

func network(proto uint8) string {
	return map[uint8]string{firewall.TCP: "tcp", firewall.UDP: "udp"}[proto]
}

// suspect is a server with what was recorded of its use. Where nothing was, sent is what its user sent.
func (c *country) suspect(id server, why, sent string) prober.Suspect {
	s := prober.Suspect{Network: id.network, Addr: id.addr, Why: why}
	if s.Client, s.Server = c.recorder.of(id); s.Client == nil && sent != "" {
		s.Client = [][]byte{[]byte(sent)}
	}
	return s
}

// judged does what a verdict leads to. It is an event of a rule "prober", in the name of the client whose flow it was.
func (c *country) judged(r *prober.Report) {
	id := server{r.Network, r.Suspect}
	proto := uint8(firewall.TCP)
	if r.Network == "udp" {
		proto = firewall.UDP
	}
	unmasked := r.Verdict.Outcome == prober.Unmasked
	p := c.profile.Probe
	box := c.firewall.Box(p.Box)
	box.Note(firewall.Event{Rule: "prober", Client: c.recorder.client(id), Server: r.Suspect, Proto: proto, Cleared: !unmasked,
		Detail: r.Verdict.String()})
	if unmasked {
		b := firewall.Block{Rule: "prober", Scope: p.Block, Server: r.Suspect, Way: p.Way, For: time.Duration(p.For)}
		if p.Block == firewall.Endpoint {
			b.Proto = proto
		}
		box.Block(b)
	}
	q := c.inquiry
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reports[id] = r
	close(q.news)
	q.news = make(chan struct{})
}

// report waits for the first report on a server.
func (c *country) report(ctx context.Context, id server) (*prober.Report, error) {
	q := c.inquiry
	for {
		q.mu.Lock()
		r, news := q.reports[id], q.news
		q.mu.Unlock()
		if r != nil {
			return r, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, fmt.Errorf("no report on %s: %w", id, ctx.Err())
		}
	}
}

// sameKind makes the control a web server of the kind that a peer's gateway is.
func (c *country) sameKind(ctx context.Context, p peer.Peer, s *peer.Site) error {
	w, ok := p.(peer.Website)
	if c.inquiry == nil || !ok {
		return nil
	}
	face, err := w.Website(ctx, s, controlAddr.Addr())
	if err != nil {
		return fmt.Errorf("a web server of the gateway's kind: %w", err)
	}
	c.inquiry.control.set(face)
	return nil
}

// probe uses a gateway, has it probed with all there is, and a plain web server in the same way.
func (c *country) probe(ctx context.Context, p peer.Peer) run {
	if c.profile.Probe == nil {
		return run{verdict: survival.None, note: "this firewall has no prober"}
	}
	const nobody = "its client sent nothing to a server of its own by TCP or UDP"
	return c.through(ctx, p, func(base traffic.Fetch) run {
		if base.Proxy == "" && !base.Addr.IsValid() { // no peer at all
			return run{verdict: survival.None, note: nobody}
		}
		c.use(ctx, base)
		c.packets.Stop() // what the prober sends is not what a failure's packets are about
		servers := c.recorder.servers(c.gateways)
		if len(servers) == 0 {
			return run{verdict: survival.None, note: nobody}
		}
		ctx, cancel := context.WithTimeout(ctx, probedFor)
		defer cancel()
		twin := c.suspect(servers[0], "a plain web server", "")
		twin.Addr, twin.Server = twinAddr, nil
		all := []prober.Suspect{twin}
		for _, id := range servers {
			all = append(all, c.suspect(id, "the scenario asks", ""))
		}
		reports, errs := make([]*prober.Report, len(all)), make([]error, len(all))
		var wg sync.WaitGroup
		for i, s := range all {
			wg.Go(func() {
				if reports[i], errs[i] = c.inquiry.quick.Probe(ctx, s); errs[i] == nil {
					c.judged(reports[i])
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return run{verdict: survival.None, note: err.Error()}
		}
		return compare(reports[0], reports[1:])
	})
}

// use visits the site until two visits went well or a while has passed: of those that a firewall blocks, too, the first
// packets have been seen by then.
func (c *country) use(ctx context.Context, base traffic.Fetch) {
	ctx, cancel := context.WithTimeout(ctx, usedFor)
	defer cancel()
	for good := 0; good < 2 && ctx.Err() == nil; {
		if c.visit(ctx, base).OK() {
			good++
		} else if sleep(ctx, time.Second) != nil {
			return
		}
	}
}

// compare says what the reports on a gateway come to, beside that on a plain web server of its kind. Who is not unmasked
// but differs is worse off than who does not.
func compare(plain *prober.Report, gateway []*prober.Report) run {
	if v := plain.Verdict; v.Outcome != prober.Cleared {
		return run{verdict: survival.None, note: "the prober does not even clear a plain web server: " + v.String()}
	}
	r := run{verdict: survival.Passes}
	var notes []string
	for _, g := range gateway {
		switch g.Verdict.Outcome {
		case prober.Unmasked:
			r.verdict = survival.Blocked
		case prober.Undecided:
			if r.verdict == survival.Passes {
				r.verdict = survival.Degraded
			}
		}
		alike, sent := g.Alike()
		notes = append(notes, fmt.Sprintf("%s %s; %d of %d probes alike", server{g.Network, g.Suspect}, g.Verdict, alike, sent))
	}
	alike, sent := plain.Alike()
	r.note = fmt.Sprintf("%s (a plain web server: %s, %d of %d)", strings.Join(notes, "; "), plain.Verdict.Outcome, alike, sent)
	return r
}

// pages is what a plain web server serves; it may become another one meanwhile.
type pages struct{ face atomic.Pointer[peer.Face] }

func (p *pages) set(f peer.Face) { p.face.Store(&f) }

func (p *pages) secure(w http.ResponseWriter, r *http.Request) { p.face.Load().Pages.ServeHTTP(w, r) }
func (p *pages) bare(w http.ResponseWriter, r *http.Request)   { p.face.Load().Bare.ServeHTTP(w, r) }

func (p *pages) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return p.face.Load().Certificate(hello)
}

const (
	maxRecorded = 256 // servers
	maxPackets  = 16  // of each side: a flight of many writes may come in as many packets
	maxLooked   = 64  // packets with a payload, of a flow in which one side says little
)

// recorder is a rule that finds nothing: it keeps for each server the first payloads of a flow, which a prober replays. The
// first flow that was answered stays; until there is one, the newest.
type recorder struct {
	mu    sync.Mutex
	flows map[server]*recording
}

type recording struct {
	recorder *recorder
	id       server
	client   netip.AddrPort
	sides    [2]recordedSide // the client's, the server's
}

type recordedSide struct {
	payloads [][]byte
	next     uint32 // TCP's sequence number of the next
}

func (r *recorder) Watch(f *firewall.Flow) firewall.Watcher {
	id := server{network(f.Proto), f.Server}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.flows[id]
	if id.network == "" || !f.FromInside || old != nil && old.sides[1].payloads != nil || old == nil && len(r.flows) >= maxRecorded {
		return nil
	}
	return &recording{recorder: r, id: id, client: f.Client}
}

func (rec *recording) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if len(p.Payload) == 0 {
		return
	}
	r := rec.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	side := &rec.sides[1]
	if p.FromClient {
		side = &rec.sides[0]
	}
	if p.Proto == firewall.TCP && side.payloads != nil && p.Seq != side.next {
		if int32(p.Seq-side.next) > 0 {
			do.Done() // something is missing: what follows is worth nothing
		}
		return // it was sent again
	}
	side.next = p.Seq + uint32(len(p.Payload))
	if len(side.payloads) < maxPackets {
		side.payloads = append(side.payloads, bytes.Clone(p.Payload))
	}
	if r.flows == nil {
		r.flows = make(map[server]*recording)
	}
	if old := r.flows[rec.id]; old == nil || old.sides[1].payloads == nil {
		r.flows[rec.id] = rec
	}
	if f.FromClient.Data+f.FromServer.Data >= maxLooked || len(rec.sides[0].payloads) == maxPackets && len(rec.sides[1].payloads) == maxPackets {
		do.Done()
	}
}

// of returns what was recorded of a server.
func (r *recorder) of(id server) (client, server [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.flows[id]; rec != nil {
		return slices.Clone(rec.sides[0].payloads), slices.Clone(rec.sides[1].payloads)
	}
	return nil, nil
}

// client is whose flow was recorded.
func (r *recorder) client(id server) netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.flows[id]; rec != nil {
		return rec.client
	}
	return netip.AddrPort{}
}

// servers lists those at some addresses of which something was recorded.
func (r *recorder) servers(at []netip.Addr) (all []server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.flows {
		if slices.Contains(at, id.addr.Addr()) {
			all = append(all, id)
		}
	}
	slices.SortFunc(all, func(a, b server) int { return cmp.Or(cmp.Compare(a.network, b.network), a.addr.Compare(b.addr)) })
	return all
}
