package traffic

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

func TestResolver(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Resolver{Names: map[string][]netip.Addr{"allowed.example": {netip.MustParseAddr("203.0.113.80"), netip.MustParseAddr("2001:db8::80")}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Serve(ctx, udp, tcp) }()
	for network, addr := range map[string]net.Addr{"udp": udp.LocalAddr(), "tcp": tcp.Addr()} {
		c := dns.Client{Net: network}
		for _, q := range []struct {
			name  string
			kind  uint16
			rcode int
			want  string
		}{
			{"Allowed.Example.", dns.TypeA, dns.RcodeSuccess, "203.0.113.80"},
			{"allowed.example.", dns.TypeAAAA, dns.RcodeSuccess, "2001:db8::80"},
			{"nobody.example.", dns.TypeA, dns.RcodeNameError, ""},
		} {
			m := new(dns.Msg)
			m.SetQuestion(q.name, q.kind)
			got, _, err := c.Exchange(m, addr.String())
			if err != nil {
				t.Fatalf("%s %s: %v", network, q.name, err)
			}
			answer := ""
			for _, rr := range got.Answer {
				switch rr := rr.(type) {
				case *dns.A:
					answer += rr.A.String()
				case *dns.AAAA:
					answer += rr.AAAA.String()
				}
			}
			if got.Rcode != q.rcode || answer != q.want {
				t.Errorf("%s %s: %v", network, q.name, got)
			}
		}
	}
	if n := len(r.Asked()); n != 6 || !slices.Contains(r.Asked(), "nobody.example") {
		t.Errorf("asked %v", r.Asked())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
