package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// dnsTime is how long answers are waited for: 99 % of China's forged ones came within 364 ms, and the true one comes
	// last. A resolver that has to ask around takes a second.
	dnsTime = 2 * time.Second
	// dnsApart is between two questions.
	dnsApart = 300 * time.Millisecond
	dnsTries = 3
	dnsPort  = 53
)

// classes numbers what answers say, so that it can be told whether two say the same, and not what.
type classes struct {
	mu   sync.Mutex
	said []string
}

func (c *classes) of(say string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.said, say)
	if i < 0 {
		i = len(c.said)
		c.said = append(c.said, say)
	}
	return i + 1
}

// nobodys is a name that is on no list: it was made up a moment ago, under a top-level domain for examples (RFC 2606).
func nobodys() string {
	b := make([]byte, 6)
	rand.Read(b)
	return hex.EncodeToString(b) + ".example"
}

// questions asks everybody about every name: the resolvers, and places that run none.
func (p *probes) questions(ctx context.Context) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	ask := func(q Question, to netip.AddrPort) {
		if ctx.Err() != nil {
			return
		}
		wg.Go(func() {
			p.question(ctx, &q, to)
			mu.Lock()
			defer mu.Unlock()
			p.seen.Questions = append(p.seen.Questions, q)
		})
		sleep(ctx, dnsApart)
	}
	place := p.reached()
	for name := range p.names {
		if name == 0 && len(p.names) == 1 {
			continue // nothing to compare with
		}
		tries := dnsTries
		if name == 0 {
			tries = 1
		}
		for i, r := range p.resolvers {
			for range min(tries, 2) {
				ask(Question{Resolver: i, Place: -1, Name: name}, r)
			}
			ask(Question{Resolver: i, Place: -1, Name: name, TCP: true}, r)
		}
		if place >= 0 {
			for range tries {
				ask(Question{Resolver: -1, Place: place, Name: name}, netip.AddrPortFrom(p.addrs[place], dnsPort))
			}
		}
	}
	wg.Wait()
	// A resolver that said nothing about a name may have been away: once more, between two questions about nobody's.
	for name := 1; name < len(p.names); name++ {
		for i, r := range p.resolvers {
			if mostAnswers(p.seen.answered(i, 0, false)) == 0 || mostAnswers(p.seen.answered(i, name, false)) > 0 {
				continue
			}
			for _, n := range []int{0, name, name, 0} {
				ask(Question{Resolver: i, Place: -1, Name: n}, r)
				wg.Wait()
			}
		}
	}
	slices.SortStableFunc(p.seen.Questions, func(a, b Question) int { return a.Name*100 + a.Resolver - b.Name*100 - b.Resolver })
}

// alive asks the resolvers for the root's name servers, which is nobody's business.
func (p *probes) alive(ctx context.Context) {
	var wg sync.WaitGroup
	seen := make([]Resolver, len(p.resolvers))
	for i, r := range p.resolvers {
		seen[i].Told = i < p.told
		wg.Go(func() {
			for range 2 {
				answers, err := p.exchange(ctx, "udp", r, ".", dnsmessage.TypeNS, true)
				if seen[i].Outcome = outcome(err); len(answers) > 0 {
					seen[i].Outcome = OK
					return
				}
			}
		})
	}
	wg.Wait()
	p.seen.Resolvers = append(p.seen.Resolvers, seen...)
}

func (p *probes) question(ctx context.Context, q *Question, to netip.AddrPort) {
	name, network := p.names[q.Name], "udp"
	if q.Name == 0 {
		name = nobodys()
	}
	if q.TCP {
		network = "tcp"
	}
	all, err := p.exchange(ctx, network, to, name, dnsmessage.TypeA, q.TCP)
	q.Outcome = outcome(err)
	if len(all) > 0 {
		q.Outcome = OK
	}
	q.Answers = []Answer{}
	for _, a := range all {
		if q.Resolver < 0 && a.code == dnsmessage.RCodeRefused {
			continue // the gateway is a name server itself, of another zone
		}
		var say []string
		seen := Answer{MS: ms(a.after), Code: int(a.code)}
		for _, addr := range a.addrs {
			say = append(say, addr.String())
			seen.Private = seen.Private || !addr.IsGlobalUnicast() || addr.IsPrivate()
		}
		slices.Sort(say)
		seen.Class = p.classes.of(fmt.Sprint(a.code, say))
		q.Answers = append(q.Answers, seen)
	}
}

// reply is one answer.
type reply struct {
	after time.Duration
	code  dnsmessage.RCode
	addrs []netip.Addr
}

// exchange asks, and listens for all that is said until the time is over, or to the first only.
func (p *probes) exchange(ctx context.Context, network string, to netip.AddrPort, name string, kind dnsmessage.Type, first bool) (all []reply, err error) {
	within, cancel := context.WithTimeout(ctx, dnsTime)
	defer cancel()
	var id [2]byte
	rand.Read(id[:])
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: binary.BigEndian.Uint16(id[:]), RecursionDesired: true}}
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, err
	}
	m.Questions = []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}}
	b, err := m.Pack()
	if err != nil {
		return nil, err
	}
	c, err := p.cfg.Dial(within, network, 0, to.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	began := time.Now()
	c.SetDeadline(began.Add(dnsTime))
	if network == "tcp" {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	for {
		var got []byte
		if network == "tcp" {
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return all, err
			}
			got = buf[:binary.BigEndian.Uint16(size[:])]
			if _, err := io.ReadFull(c, got); err != nil {
				return all, err
			}
		} else {
			n, err := c.Read(buf)
			if err != nil {
				return all, err
			}
			got = buf[:n]
		}
		if r, ok := parseReply(got, m.ID, m.Questions[0]); ok {
			r.after = time.Since(began)
			if all = append(all, r); first {
				return all, nil
			}
		}
	}
}

// parseReply reads an answer, if it is one to the question.
func parseReply(b []byte, id uint16, q dnsmessage.Question) (r reply, ok bool) {
	var parser dnsmessage.Parser
	h, err := parser.Start(b)
	if err != nil || !h.Response || h.ID != id {
		return r, false
	}
	asked, err := parser.AllQuestions()
	if err != nil || len(asked) != 1 || asked[0].Type != q.Type || !bytes.EqualFold([]byte(asked[0].Name.String()), []byte(q.Name.String())) {
		return r, false
	}
	r.code = h.RCode
	for range 64 { // more records nobody needs
		record, err := parser.AnswerHeader()
		if err != nil {
			break
		}
		switch record.Type {
		case dnsmessage.TypeA:
			a, err := parser.AResource()
			if err != nil {
				return r, true
			}
			r.addrs = append(r.addrs, netip.AddrFrom4(a.A))
		default:
			if parser.SkipAnswer() != nil {
				return r, true
			}
		}
	}
	return r, true
}
