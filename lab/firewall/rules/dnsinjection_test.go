package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// dnsQuestion makes a question.
func dnsQuestion(t testing.TB, name string, kind dnsmessage.Type) string {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// answers reads forged answers, whose checksums have to be right.
func answers(t *testing.T, res firewalltest.Result) (list []dnsmessage.Message) {
	t.Helper()
	for _, f := range res.Forged {
		udp, ok := f.Packet.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			t.Fatalf("%v is not UDP", f.Packet)
		}
		if err := udp.SetNetworkLayerForChecksum(f.Packet.NetworkLayer()); err != nil {
			t.Fatal(err)
		}
		if err, wrong := f.Packet.VerifyChecksums(); err != nil || len(wrong) > 0 {
			t.Errorf("checksums: %v %v", err, wrong)
		}
		var m dnsmessage.Message
		if err := m.Unpack(udp.Payload); err != nil {
			t.Fatal(err)
		}
		if !m.Response || len(m.Questions) != 1 {
			t.Errorf("%+v", m)
		}
		list = append(list, m)
	}
	return list
}

func gfwDNS(t testing.TB) *DNSInjection {
	return &DNSInjection{Names: Names{"*anned*", "=exact.example"}, Except: Names{"canned.example"},
		Injectors: named[DNSInjector](t, "gfw-1", "gfw-2", "gfw-3"), TCP: &Then{Reset: named[Injector](t, "gfw-2")}}
}

func TestDNSInjection(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:53"
	for _, c := range []struct {
		name           string
		frames         []firewalltest.Frame
		forged         int
		towardsOutside bool
	}{
		{"the name", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeA)), 3, false},
		{"a part of it", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "planned.test.", dnsmessage.TypeA)), 3, false},
		{"in capitals", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "BANNED.example.", dnsmessage.TypeAAAA)), 3, false},
		{"spared", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "canned.example.", dnsmessage.TypeA)), 0, false},
		{"not below", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "x.exact.example.", dnsmessage.TypeA)), 0, false},
		{"another name", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "allowed.example.", dnsmessage.TypeA)), 0, false},
		{"another type", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeTXT)), 0, false},
		{"another port", firewalltest.Conn(t, firewall.UDP, client, "198.51.100.1:5353", 0, ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeA)), 0, false},
		{"from outside", reverse(firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeA))), 3, true},
		{"twice", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeA), ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeA)), 6, false},
		{"IPv6", firewalltest.Conn(t, firewall.UDP, "[2001:db8::1]:1", "[2001:db8::2]:53", 0, ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeA)), 3, false},
		{"no question", firewalltest.Conn(t, firewall.UDP, client, server, 0, ">", ">x", ">"+dnsQuestion(t, "banned.example.", dnsmessage.TypeA)[:20]), 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := firewalltest.Pass(newBox(t, firewall.OnPath, Set{DNSInjection: []*DNSInjection{gfwDNS(t)}}), c.frames)
			if len(res.Forged) != c.forged || len(res.Dropped) > 0 {
				t.Fatalf("forged %d, want %d; dropped %v", len(res.Forged), c.forged, res.Dropped)
			}
			answers(t, res)
			for _, f := range res.Forged {
				if f.Outbound != c.towardsOutside {
					t.Error("sent the wrong way")
				}
			}
		})
	}
	untouched(t, firewall.OnPath, func() Set {
		r := gfwDNS(t)
		r.Names = Names{"ban.example"}
		return Set{DNSInjection: []*DNSInjection{r}}
	})
}

// TestDNSInjectors checks the three machines' fingerprints, and when they are heard.
func TestDNSInjectors(t *testing.T) {
	t.Parallel()
	late, total := 0, 0
	for seed := uint64(1); seed <= 20; seed++ {
		box := newBox(t, firewall.OnPath, Set{DNSInjection: []*DNSInjection{gfwDNS(t)}}, withSeed(seed))
		var ttls []uint8
		forged := map[netip.Addr]bool{}
		for n := range 40 {
			kind := []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}[n%2]
			res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.UDP, fmt.Sprintf("192.0.2.1:%d", 40000+n), "198.51.100.1:53", time.Duration(n)*time.Second,
				">"+dnsQuestion(t, "banned.example.", kind)))
			for i, m := range answers(t, res) {
				ip := res.Forged[i].Packet.NetworkLayer().(*layers.IPv4)
				df := ip.Flags&layers.IPv4DontFragment != 0
				after := res.Forged[i].After
				if total++; after > 30*ms { // a resolver abroad is further away
					late++
				}
				if after <= 0 || after > 364*ms || m.Authoritative != (i == 0) || df != (i == 1) || (ip.Id == 0) != (i == 2) || i == 2 && ip.TTL != 60 {
					t.Errorf("injector %d: after %v, %+v, %+v", i+1, after, ip, m.Header)
				}
				if i == 0 {
					if ttls = append(ttls, ip.TTL); m.Answers[0].Header.TTL != 60 {
						t.Errorf("%d seconds", m.Answers[0].Header.TTL)
					}
				}
				var a netip.Addr
				switch body := m.Answers[0].Body.(type) {
				case *dnsmessage.AResource:
					a = netip.AddrFrom4(body.A)
					forged[a] = true
				case *dnsmessage.AAAAResource:
					a = netip.AddrFrom16(body.AAAA)
				}
				if len(m.Answers) != 1 || m.Answers[0].Header.Type != kind || !documentation4.Has(a) && !documentation6.Has(a) {
					t.Errorf("%+v", m.Answers)
				}
			}
		}
		for i := range ttls[1:] {
			if ttls[i+1] != ttls[i]+1 && ttls[i+1] > 40 {
				t.Errorf("time to live %d after %d", ttls[i+1], ttls[i])
			}
		}
		if len(forged) < 40 {
			t.Errorf("only %d addresses", len(forged))
		}
	}
	if late*100 > total {
		t.Errorf("%d of %d are late", late, total)
	}
}

func TestDNSInPath(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:53"
	iran := &DNSInjection{Names: Names{"banned.example"}, Injectors: named[DNSInjector](t, "iran"), Drop: true, TCP: &Then{Drop: true, Block: scope(firewall.Connection)}}
	gone := &DNSInjection{Names: Names{"banned.example"}, Injectors: named[DNSInjector](t, "nxdomain"), Drop: true, Outbound: true}
	seen := map[string]bool{}
	for seed := uint64(1); seed <= 20; seed++ {
		frames := firewalltest.Conn(t, firewall.UDP, client, server, 0, ">"+dnsQuestion(t, "www.banned.example.", dnsmessage.TypeA),
			">"+dnsQuestion(t, "www.banned.example.", dnsmessage.TypeAAAA), ">"+dnsQuestion(t, "www.banned.example.", dnsmessage.TypeTXT), ">"+dnsQuestion(t, "allowed.example.", dnsmessage.TypeA))
		res := firewalltest.Pass(newBox(t, firewall.InPath, Set{DNSInjection: []*DNSInjection{iran}}, withSeed(seed)), frames)
		list := answers(t, res)
		if !slices.Equal(res.Dropped, []int{0, 1, 2}) || len(list) != 2 || len(list[0].Answers) != 1 || len(list[1].Answers) != 0 {
			t.Fatalf("dropped %v, answers %+v", res.Dropped, list)
		}
		a := netip.AddrFrom4(list[0].Answers[0].Body.(*dnsmessage.AResource).A)
		seen[a.String()] = true
		if ttl := res.Forged[0].Packet.NetworkLayer().(*layers.IPv4).TTL; ttl != 60 || res.Forged[0].After != 0 {
			t.Errorf("time to live %d, after %v", ttl, res.Forged[0].After)
		}

		res = firewalltest.Pass(newBox(t, firewall.InPath, Set{DNSInjection: []*DNSInjection{gone}}, withSeed(seed)), frames)
		list = answers(t, res)
		if !slices.Equal(res.Dropped, []int{0, 1, 2}) || len(list) != 3 {
			t.Fatalf("dropped %v, answers %+v", res.Dropped, list)
		}
		for _, m := range list {
			if m.RCode != dnsmessage.RCodeNameError || len(m.Answers) > 0 {
				t.Errorf("%+v", m)
			}
		}
		if res := firewalltest.Pass(newBox(t, firewall.InPath, Set{DNSInjection: []*DNSInjection{gone}}), reverse(frames)); len(res.Dropped) > 0 {
			t.Errorf("dropped %v from outside", res.Dropped)
		}
	}
	if len(seen) != 3 || !seen["10.10.34.34"] || !seen["10.10.34.35"] || !seen["10.10.34.36"] {
		t.Errorf("answers %v", seen)
	}
	untouched(t, firewall.InPath, func() Set {
		r := *iran
		r.Names = Names{"ban.example"}
		return Set{DNSInjection: []*DNSInjection{&r}}
	})
}

// TestDNSRecorded has dig's questions, over UDP and TCP: banned.example's A and AAAA, and its A over TCP.
func TestDNSRecorded(t *testing.T) {
	t.Parallel()
	frames := recorded(t, "dns")
	for seed := uint64(1); seed <= 20; seed++ {
		res := firewalltest.Pass(newBox(t, firewall.OnPath, Set{DNSInjection: []*DNSInjection{gfwDNS(t)}}, withSeed(seed)), frames)
		udp, tcp := 0, 0
		for _, f := range res.Forged {
			if f.Packet.Layer(layers.LayerTypeTCP) != nil {
				tcp++
			} else {
				udp++
			}
		}
		if udp != 6 || tcp != 6 || len(res.Events) != 3 || len(res.Dropped) > 0 {
			t.Errorf("forged %d over UDP and %d over TCP; fired %v", udp, tcp, res.Fired())
		}
	}
	t.Run("in path", func(t *testing.T) {
		r := &DNSInjection{Names: Names{"banned.example"}, Injectors: named[DNSInjector](t, "iran"), Drop: true, TCP: &Then{Drop: true, Block: scope(firewall.Connection)}}
		res := firewalltest.Pass(newBox(t, firewall.InPath, Set{DNSInjection: []*DNSInjection{r}}), frames)
		if len(res.Forged) != 2 || len(res.Dropped) < 4 || len(res.Events) != 3 {
			t.Errorf("forged %d, dropped %v, fired %v", len(res.Forged), res.Dropped, res.Fired())
		}
	})
	t.Run("over TCP, in pieces", func(t *testing.T) {
		q := dnsQuestion(t, "banned.example.", dnsmessage.TypeA)
		q = string([]byte{0, byte(len(q))}) + q
		for _, c := range []struct {
			reassemble bool
			forged     int
		}{{true, 6}, {false, 0}} { // 20 bytes each pass where nothing is put together
			box := newBox(t, firewall.OnPath, Set{DNSInjection: []*DNSInjection{gfwDNS(t)}}, func(cfg *firewall.Config) { cfg.ReassembleTCP = c.reassemble })
			res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:53", 0, ">"+q[:20], ">"+q[20:]))
			if len(res.Forged) != c.forged {
				t.Errorf("forged %d, want %d", len(res.Forged), c.forged)
			}
		}
	})
}

func TestDNSChecks(t *testing.T) {
	t.Parallel()
	names := Names{"banned.example"}
	for field, r := range map[string]*DNSInjection{
		"names":     {Drop: true},
		"injectors": {Names: names},
		"ports":     {Names: names, Drop: true, Ports: []int{0}},
		"a":         {Names: names, Drop: true, A: nets("2001:db8::/32")},
		"aaaa":      {Names: names, Drop: true, AAAA: nets("192.0.2.0/24")},
		"tcp":       {Names: names, TCP: &Then{}},
		"tcp.pass":  {Names: names, TCP: &Then{Block: scope(firewall.Pair), Pass: [2]int{3, 2}}},
	} {
		wantField(t, firewall.InPath, Set{DNSInjection: []*DNSInjection{r}}, field)
	}
	wantField(t, firewall.OnPath, Set{DNSInjection: []*DNSInjection{{Names: names, Drop: true}}}, "drop")
	wantField(t, firewall.OnPath, Set{DNSInjection: []*DNSInjection{{Names: names, TCP: &Then{Drop: true}}}}, "tcp.drop")
	var i DNSInjector
	if err := i.UnmarshalText([]byte("gfw-4")); err == nil {
		t.Error("there is an injector gfw-4")
	}
}
