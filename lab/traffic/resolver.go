package traffic

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Resolver answers for the names of a lab, over UDP and TCP, and notes what it was asked.
type Resolver struct {
	Names map[string][]netip.Addr // without the last dot
	// Zone is delegated: who asks for a name in it is given what Ask says. Empty is none.
	Zone string
	Ask  func(q *dns.Msg) (*dns.Msg, error)

	mu    sync.Mutex
	asked []string
}

// Asked lists the names that it was asked for, in order.
func (r *Resolver) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

// Serve answers until ctx ends; the sockets are closed then.
func (r *Resolver) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener) error {
	servers := []*dns.Server{{PacketConn: udp, Handler: dns.HandlerFunc(r.answer)}, {Listener: tcp, Handler: dns.HandlerFunc(r.answer)}}
	var wg sync.WaitGroup
	errs := make([]error, len(servers))
	started := make(chan struct{}, len(servers))
	for i, s := range servers {
		s.NotifyStartedFunc = func() { started <- struct{}{} }
		wg.Go(func() {
			if errs[i] = s.ActivateAndServe(); errs[i] != nil {
				started <- struct{}{}
			}
		})
	}
	for range servers {
		<-started
	}
	<-ctx.Done()
	for _, s := range servers {
		_ = s.Shutdown() // an error says that it has ended already
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (r *Resolver) answer(w dns.ResponseWriter, q *dns.Msg) {
	if r.Zone != "" && len(q.Question) == 1 && dns.IsSubDomain(dns.Fqdn(r.Zone), strings.ToLower(q.Question[0].Name)) {
		r.elsewhere(w, q)
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	for _, question := range q.Question {
		name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
		r.mu.Lock()
		r.asked = append(r.asked, name)
		r.mu.Unlock()
		addrs, known := r.Names[name]
		if !known {
			m.Rcode = dns.RcodeNameError
			continue
		}
		hdr := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 60}
		for _, a := range addrs {
			switch {
			case question.Qtype == dns.TypeA && a.Is4():
				m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: a.AsSlice()})
			case question.Qtype == dns.TypeAAAA && a.Is6():
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()})
			}
		}
	}
	_ = w.WriteMsg(m) // who asked has gone
}

// elsewhere has somebody else answer.
func (r *Resolver) elsewhere(w dns.ResponseWriter, q *dns.Msg) {
	asked := q.Copy()
	asked.Id = dns.Id()
	m, err := r.Ask(asked)
	if err != nil {
		m = new(dns.Msg)
		m.SetRcode(q, dns.RcodeServerFailure)
	}
	m.Id = q.Id
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m) // who asked has gone
}
