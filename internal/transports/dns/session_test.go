package dns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// asked is a user's query as a resolver passes it on.
func userQuery(q query, mode uint16) *dns.Msg {
	key := newKey(transporttest.Lock{}, testZone)
	return new(dns.Msg).SetQuestion(string(appendName(nil, key.seal(isQuery, nil, q.append(nil)), testZone)), mode)
}

var someResolver = netip.MustParseAddr("198.51.100.53")

func rcode(l *Listener, m *dns.Msg) (int, []dns.RR) {
	a, _ := l.reply(m, someResolver, true)
	return a.Rcode, a.Answer
}

// Who saw a query and asks it again learns what everybody learns: after a while, that there is no such name.
func TestReplay(t *testing.T) {
	g := newGateway(t, func(c *ListenConfig) { c.Hold = time.Millisecond })
	open := query{session: 7, nonce: 1, kind: kindOpen, mode: dns.TypeTXT, size: minMessage, segment: 100}
	first := userQuery(open, dns.TypeTXT)
	_, answer := rcode(g.Listener, first)
	if len(answer) != 1 {
		t.Fatal("a user's query was not answered")
	}
	if _, again := rcode(g.Listener, first); len(again) != 1 || again[0].String() != answer[0].String() {
		t.Error("a resolver that repeats a query gets another answer")
	}
	if code, other := rcode(g.Listener, userQuery(open, dns.TypeA)); code != dns.RcodeSuccess || len(other) != 0 {
		t.Errorf("a resolver that asks for another type first gets %d, %v", code, other)
	}
	for nonce := range uint16(100) {
		rcode(g.Listener, userQuery(query{session: 7, nonce: 2 + nonce, mode: dns.TypeTXT, size: minMessage}, dns.TypeTXT))
	}
	if code, _ := rcode(g.Listener, first); code != dns.RcodeNameError {
		t.Errorf("an old query of a session gets %d", code)
	}
	g.mu.Lock()
	s := g.sessions[7]
	g.mu.Unlock()
	s.end(io.EOF)
	if !s.over(time.Now().Add(goneTime + time.Second)) {
		t.Error("a session is never forgotten")
	}
	g.mu.Lock()
	delete(g.sessions, 7)
	g.mu.Unlock()
	for name, q := range map[string]query{"what opened it": open, "another that would": {session: 7, nonce: 9, kind: kindOpen, mode: dns.TypeTXT, size: minMessage, segment: 100},
		"one of it": {session: 7, nonce: 50, mode: dns.TypeTXT, size: minMessage}, "one of none": {session: 8, nonce: 50, mode: dns.TypeTXT, size: minMessage}} {
		for _, qtype := range []uint16{dns.TypeTXT, dns.TypeA} {
			m := userQuery(q, qtype)
			if code, _ := rcode(g.Listener, m); code != dns.RcodeNameError && !(qtype == dns.TypeA && q.kind == kindOpen) {
				t.Errorf("%s, after the session: %d", name, code)
			}
		}
	}
	probe := query{session: 9, nonce: 1, kind: kindProbe, mode: dns.TypeTXT, size: minMessage}
	now := time.Now()
	if first, again := g.spend(probe.probe(), now), g.spend(probe.probe(), now.Add(time.Second)); !first || !again ||
		g.spend(probe.probe(), now.Add(time.Minute)) {
		t.Error("a probe is good for ever, or not for a resolver that repeats it")
	}
}

// A client whose gateway has forgotten it is told.
func TestGatewayRestarts(t *testing.T) {
	g := newGateway(t)
	client, server := connect(t, g, g.dialer(t, ""))
	echo(t, client, server, 100)
	g.mu.Lock()
	clear(g.sessions)
	g.mu.Unlock()
	client.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client reads %v", err)
	}
}

// Each end hears that the other has closed, with all that was written before.
func TestClose(t *testing.T) {
	g := newGateway(t)
	for _, byClient := range []bool{true, false} {
		client, server := connect(t, g, g.dialer(t, ""))
		from, to := client, server
		if !byClient {
			from, to = server, client
		}
		want := bytes.Repeat([]byte("word"), 1000)
		from.Write(want)
		from.Close()
		to.SetReadDeadline(time.Now().Add(10 * time.Second))
		got, err := io.ReadAll(to)
		if !bytes.Equal(got, want) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d of %d bytes came, %v", len(got), len(want), err)
		}
		to.Close()
	}
}

func TestDeadlines(t *testing.T) {
	g := newGateway(t)
	client, _ := connect(t, g, g.dialer(t, ""))
	client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading gave %v", err)
	}
	c := newConn(100, maxWindow, leastUnsent, addr("a"), addr("b"))
	c.kick = func() {}
	c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Write(make([]byte, 1<<20)); n != leastUnsent || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing gave %d, %v", n, err)
	}
	c.SetDeadline(time.Time{})
	go func() {
		time.Sleep(10 * time.Millisecond)
		c.SetDeadline(time.Unix(1, 0)) // wakes who waits
	}()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading gave %v", err)
	}
}

// Errors name the stage, and no address.
func TestDialErrors(t *testing.T) {
	g := newGateway(t)
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for name, tt := range map[string]struct {
		zone   string
		change func(*Dialer)
		stage  transport.Stage
	}{
		"no zone":         {"example", func(*Dialer) {}, transport.StageLookup},
		"an address":      {"192.0.2.1", func(*Dialer) {}, transport.StageLookup},
		"too long":        {"a-zone-that-is-not-short-at-all.of-a-domain-that-is-even-longer.example.net", func(d *Dialer) { d.LongestName = ShortName }, transport.StageConnect},
		"no answer":       {testZone, func(d *Dialer) { d.Resolvers = []dnsclient.Resolver{resolver(t, nobody.LocalAddr().String())} }, transport.StageConnect},
		"another zone":    {"u.example.net", func(*Dialer) {}, transport.StageConnect},
		"another network": {testZone, nil, transport.StageConnect},
	} {
		d := g.dialer(t, "")
		ep := g.endpoint()
		if tt.change != nil {
			tt.change(d)
		} else {
			ep.Opener = otherHolders{}
		}
		ep.Addr = tt.zone
		_, err := d.Dial(ctx, ep)
		var de *transport.DialError
		if !errors.As(err, &de) || de.Stage != tt.stage || de.Transport != Name {
			t.Errorf("%s: %v", name, err)
		} else if bytes.Contains([]byte(err.Error()), []byte("127.0.0.1")) {
			t.Errorf("%s: it names an address: %v", name, err)
		}
	}
}
