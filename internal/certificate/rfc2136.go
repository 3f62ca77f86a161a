package certificate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

// RFC2136 writes the records of DNS-01 by dynamic updates (RFC 2136), signed by a shared key (TSIG, RFC 8945).
type RFC2136 struct {
	// Server is the zone's primary server, host:port.
	Server string
	// KeyName and Key are the shared key's name, and itself in base64.
	KeyName string
	Key     string
	// Wait is how long the zone's other servers may take to hear of an update; zero means a minute.
	Wait time.Duration
}

const (
	dnsTimeout = 20 * time.Second
	dnsTTL     = 60
)

// Check says what is wrong with the key.
func (r *RFC2136) Check() error {
	if _, ok := dns.IsDomainName(r.KeyName); !ok || r.KeyName == "" {
		return fmt.Errorf("the key's name %q is no name", r.KeyName)
	}
	if _, err := base64.StdEncoding.DecodeString(r.Key); err != nil || r.Key == "" {
		return errors.New("the key is not base64")
	}
	return nil
}

// zone finds the zone that a name lies in: its server names it, whether it knows the name or not.
func (r *RFC2136) zone(ctx context.Context, name string) (string, error) {
	q := new(dns.Msg).SetQuestion(name, dns.TypeSOA)
	a, _, err := (&dns.Client{Net: "tcp", Timeout: dnsTimeout}).ExchangeContext(ctx, q, r.Server)
	if err != nil {
		return "", err
	}
	for _, rr := range append(a.Answer, a.Ns...) {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return soa.Hdr.Name, nil
		}
	}
	return "", fmt.Errorf("it serves no zone of this name (%s)", dns.RcodeToString[a.Rcode])
}

// update adds or removes one TXT record.
func (r *RFC2136) update(ctx context.Context, name, value string, add bool) error {
	name = dns.Fqdn(name)
	zone, err := r.zone(ctx, name)
	if err != nil {
		return fmt.Errorf("DNS server: finding the zone: %w", err)
	}
	record := &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: dnsTTL},
		Txt: []string{value}}
	u := new(dns.Msg).SetUpdate(zone)
	if add {
		u.Insert([]dns.RR{record})
	} else {
		u.Remove([]dns.RR{record})
	}
	key := dns.CanonicalName(r.KeyName)
	u.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
	c := &dns.Client{Net: "tcp", Timeout: dnsTimeout, TsigSecret: map[string]string{key: r.Key}}
	a, _, err := c.ExchangeContext(ctx, u, r.Server)
	if err != nil {
		return fmt.Errorf("DNS server: updating: %w", err)
	}
	if a.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("DNS server: it refused the update: %s", dns.RcodeToString[a.Rcode])
	}
	return nil
}

// dnsSolver is an acmez.Solver, and a Waiter.
type dnsSolver struct{ r *RFC2136 }

func (s dnsSolver) Present(ctx context.Context, c acme.Challenge) error {
	return s.r.update(ctx, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization(), true)
}

func (s dnsSolver) Wait(ctx context.Context, _ acme.Challenge) error {
	d := s.r.Wait
	if d == 0 {
		d = time.Minute
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CleanUp works after the end of ctx too: the record is of no use to anyone.
func (s dnsSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dnsTimeout)
	defer cancel()
	return s.r.update(ctx, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization(), false)
}
