package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/dnsmessage"
	"github.com/godwit-vpn/godwit/internal/dnsmessage/dnscache"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// questionLimits bound a stream of DNS messages. It ends early: another costs its client no wait.
var questionLimits = dnsmessage.Limits{AtOnce: 128, Idle: 30 * time.Second, Write: 10 * time.Second}

const (
	maxQuestions = 2048 // under way at once, of all streams
	// questionTimeout leaves a client that waits 5 s the time to hear that there is no answer.
	questionTimeout = 4 * time.Second
)

func newClient(c Config) (*dnsclient.Client, error) {
	sockets := dnsclient.Sockets{Roots: c.ResolverRoots}
	if c.Resolver == "" {
		return dnsclient.NewClient(sockets), nil
	}
	r, err := dnsclient.Parse(c.Resolver)
	if err != nil {
		return nil, fmt.Errorf("egress: config: %w", err)
	}
	return dnsclient.NewClient(sockets, r), nil
}

// newAnswers keeps answers no longer than names are kept: see positiveTTL.
func newAnswers(c *dnsclient.Client) *dnscache.Cache {
	return dnscache.New(dnscache.Config{
		Ask: c.Ask, Timeout: questionTimeout, Entries: maxNames, Asking: maxQuestions, MaxAge: positiveTTL,
	})
}

// serveQuestions returns the one end of a stream at whose other end DNS messages are answered.
func (s *Sockets) serveQuestions() (net.Conn, *flow.Error) {
	client, server := duplex()
	if !s.goRun(func() { _ = dnsmessage.ServeStream(s.ctx, server, questionLimits, s.answer) }) {
		client.Close()
		server.Close()
		return nil, errClosed
	}
	return client, nil
}

// answer answers one message, or returns nil for what is none. Answers are passed on as they come: what is in them the
// policy looks at when somebody goes there.
func (s *Sockets) answer(ctx context.Context, query []byte) []byte {
	q, refusal, ok := dnsmessage.ParseQuery(query)
	if !ok {
		return refusal
	}
	if a := s.special(q.Question); a != nil {
		return q.Reply(a, 0, 0)
	}
	a, age, err := s.answers.Answer(ctx, q.Question)
	if err != nil {
		return q.Fail(dnsmessage.ServFail)
	}
	return q.Reply(a, age, 0)
}

// special answers questions about names that nobody outside has. A gateway whose sessions may reach some network of its
// own asks about those that may be in there, too.
func (s *Sockets) special(q dnsmessage.Question) *dnsmessage.Answer {
	if a := dnsmessage.Special(q); a != nil {
		return a
	}
	name := q.Name()
	switch {
	case dnsmessage.Below(name, "godwit.internal"):
		return q.Made(dnsmessage.NXDomain)
	case len(s.policy.allow) > 0:
		return nil
	case dnsmessage.InsideReverse(name):
		return q.Made(dnsmessage.NXDomain)
	case !dnsmessage.Inside(name):
		return nil
	case topLevel(name):
		switch q.Type { // the rest is there, and validators ask for it
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB:
			return q.Made(dnsmessage.Success)
		}
		return nil
	}
	return q.Made(dnsmessage.NXDomain)
}

func topLevel(name string) bool {
	for _, c := range []byte(name) {
		if c == '.' {
			return false
		}
	}
	return true
}

// lookup is a NameLookup by way of the resolver that the settings name.
type lookup struct{ answers *dnscache.Cache }

func (l lookup) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	types := map[string][]uint16{"ip4": {dnsmessage.TypeA}, "ip6": {dnsmessage.TypeAAAA}}[network]
	if types == nil {
		types = []uint16{dnsmessage.TypeAAAA, dnsmessage.TypeA}
	}
	type result struct {
		addrs []netip.Addr
		err   error
	}
	results := make([]chan result, len(types))
	for i, typ := range types {
		results[i] = make(chan result, 1) // so that nobody waits for who has lost interest
		go func() {
			addrs, err := l.one(ctx, host, typ)
			results[i] <- result{addrs, err}
		}()
	}
	var all []netip.Addr
	var failure error
	for _, c := range results {
		r := <-c
		all = append(all, r.addrs...)
		if r.err != nil {
			failure = r.err
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case failure != nil:
		return nil, failure
	}
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

var errLookup = errors.New("the name could not be looked up")

func (l lookup) one(ctx context.Context, host string, typ uint16) (addrs []netip.Addr, err error) {
	q, ok := dnsmessage.NewQuestion(host, typ)
	if !ok {
		return nil, nil
	}
	a, _, err := l.answers.Answer(ctx, q)
	if err != nil {
		return nil, err
	}
	a.Addrs(func(addr netip.Addr, _ time.Duration) { addrs = append(addrs, addr) })
	if a.Code != dnsmessage.Success && a.Code != dnsmessage.NXDomain {
		return nil, errLookup
	}
	return addrs, nil
}

// half is one end of two pipes, so that each direction can end by itself as with TCP.
type half struct {
	net.Conn // read from
	out      net.Conn
}

// duplex returns two connected ends.
func duplex() (a, b half) {
	aRead, bWrite := net.Pipe()
	bRead, aWrite := net.Pipe()
	return half{aRead, aWrite}, half{bRead, bWrite}
}

func (h half) Write(p []byte) (int, error)        { return h.out.Write(p) }
func (h half) SetWriteDeadline(t time.Time) error { return h.out.SetWriteDeadline(t) }
func (h half) CloseWrite() error                  { return h.out.Close() }
func (h half) Close() error                       { return errors.Join(h.Conn.Close(), h.out.Close()) }
func (h half) SetDeadline(t time.Time) error {
	if err := h.Conn.SetDeadline(t); err != nil {
		return err
	}
	return h.out.SetDeadline(t)
}
