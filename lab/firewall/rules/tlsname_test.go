package rules

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestTLSName(t *testing.T) {
	t.Parallel()
	rule := &TLSName{Names: Names{"banned.example"}, Then: Then{
		Reset: named[Injector](t, "gfw-1", "gfw-2", "gfw-3"),
		Block: scope(firewall.Pair), For: always(180 * time.Second), Again: true}}
	banned, allowed := hello(t, "www.banned.example"), hello(t, "allowed.example")
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	for _, c := range []struct {
		name   string
		texts  []string
		forged int
	}{
		{"whole", []string{">" + banned}, 10},
		{"in two segments", []string{">" + banned[:40], "<", ">" + banned[40:]}, 10},
		{"another name", []string{">" + allowed}, 0},
		{"not TLS", []string{">GET / HTTP/1.1\r\nHost: banned.example\r\n\r\n"}, 0},
		{"said by the server", []string{"<" + banned}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newBox(t, firewall.OnPath, Set{TLSName: []*TLSName{rule}})
			res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, server, 0, c.texts...))
			if len(res.Dropped) > 0 || len(res.Forged) != c.forged {
				t.Errorf("dropped %v, forged %d, want %d; fired %v", res.Dropped, len(res.Forged), c.forged, res.Fired())
			}
			toClient := 0
			for _, f := range res.Forged {
				if !f.Outbound {
					toClient++
				}
				if f.After < 11500*time.Microsecond || f.After > 445*time.Millisecond {
					t.Errorf("a reset comes after %v", f.After)
				}
			}
			if toClient != c.forged/2 {
				t.Errorf("%d of %d to the client", toClient, c.forged)
			}
		})
	}
	t.Run("residual", func(t *testing.T) {
		box := newBox(t, firewall.OnPath, Set{TLSName: []*TLSName{rule}})
		firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+banned))
		for _, c := range []struct {
			name, client, server string
			after                time.Duration
			forged               bool
		}{
			{"same server, new port", "192.0.2.1:40001", server, time.Second, true},
			{"nearly over", "192.0.2.1:40002", server, 179 * time.Second, true},
			{"another port of the server", "192.0.2.1:40003", "198.51.100.1:8443", time.Second, false},
			{"another client", "192.0.2.2:40004", server, time.Second, false},
			{"over", "192.0.2.1:40005", server, 181 * time.Second, false},
		} {
			res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, c.client, c.server, c.after, ">"+allowed))
			if got := len(res.Forged) > 0; got != c.forged {
				t.Errorf("%s: forged %v, want %v", c.name, got, c.forged)
			}
		}
	})
}

// tlsTalk is what Go's TLS at both ends says until the handshake is over, as firewalltest.Conn wants it.
func tlsTalk(t testing.TB, sni, certificate string, version uint16) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{certificate}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var said script
	a, b := net.Pipe()
	done := make(chan error, 1) // the server's only word
	go func() {
		done <- tls.Server(&speaker{b, "<", &said}, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
			MaxVersion: version, SessionTicketsDisabled: true}).Handshake()
	}()
	if err := tls.Client(&speaker{a, ">", &said}, &tls.Config{ServerName: sni, InsecureSkipVerify: true, MaxVersion: version}).Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return said.texts
}

type script struct {
	mu    sync.Mutex
	texts []string
}

type speaker struct {
	net.Conn
	who    string
	script *script
}

func (s *speaker) Write(b []byte) (int, error) {
	s.script.mu.Lock()
	s.script.texts = append(s.script.texts, s.who+string(b))
	s.script.mu.Unlock()
	return s.Conn.Write(b)
}

func TestTLSNameRecorded(t *testing.T) {
	t.Parallel()
	set := func() Set {
		return Set{TLSName: []*TLSName{{Names: Names{"banned.example"}, Then: Then{Reset: named[Injector](t, "gfw-1", "gfw-2", "gfw-3"),
			Block: scope(firewall.Pair), For: always(180 * time.Second), Again: true}}}}
	}
	seeds(t, func(t *testing.T, seed uint64) {
		for _, capture := range []string{"direct-https-banned", "chromium-https-banned"} {
			res := firewalltest.Pass(newBox(t, firewall.OnPath, set(), withSeed(seed)), recorded(t, capture))
			if !slices.Contains(res.Fired(), "tls-name") || len(res.Forged) < 10 || len(res.Dropped) > 0 {
				t.Errorf("%s: fired %v, forged %d, dropped %v", capture, res.Fired(), len(res.Forged), res.Dropped)
			}
		}
	})
	// A name inside of a tunnel, or behind another, is not seen.
	untouched(t, firewall.OnPath, set, "godwit", "reality", "trojan", "https-proxy", "shadowsocks", "http-banned", "quic-banned")
}

func TestTLSNameInRussia(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:443"
	banned := hello(t, "banned.example")
	rule := func(then Then) *TLSName {
		return &TLSName{Names: Names{"banned.example"}, Records: true, Outbound: true, Opened: true, Then: then}
	}
	texts := append([]string{">" + banned, "<hello"}, talk(21, 10)...)
	// Frame 3 is the hello; each that follows has the next number.
	last := 3 + len(texts) - 1
	for _, c := range []struct {
		name      string
		then      Then
		dropped   func(d []int) bool
		forged    int
		residual  time.Duration
		recovered int // dropped of a connection with the same ports after that
	}{
		{"class I", Then{Block: scope(firewall.Connection), Way: firewall.ToClient, For: always(75 * time.Second), Rewrite: true},
			func(d []int) bool { return len(d) == 11 && d[0] == 4 && d[1] == 6 }, 11, 75 * time.Second, 2},
		{"class II", Then{Block: scope(firewall.Connection), For: always(420 * time.Second), Pass: [2]int{5, 8}},
			func(d []int) bool { return d[0] >= 4+5 && d[0] <= 4+8 && len(d) == last-d[0]+1 }, 0, 420 * time.Second, 4},
		{"class IV", Then{Drop: true, Block: scope(firewall.Connection), For: always(40 * time.Second)},
			func(d []int) bool { return d[0] == 3 && len(d) == last-3+1 }, 0, 40 * time.Second, 4},
		{"MCI's", Then{Block: scope(firewall.Connection), Way: firewall.ToClient, Data: true},
			func(d []int) bool { return len(d) == 11 && d[0] == 4 }, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 20; seed++ {
				box := newBox(t, firewall.InPath, Set{TLSName: []*TLSName{rule(c.then)}}, withSeed(seed))
				res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, server, 0, texts...))
				if len(res.Dropped) == 0 || !c.dropped(res.Dropped) || len(res.Forged) != c.forged {
					t.Fatalf("dropped %v, forged %d", res.Dropped, len(res.Forged))
				}
				for i, f := range res.Forged {
					tcp := f.Packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
					ip := f.Packet.NetworkLayer().(*layers.IPv4)
					if f.Outbound || !tcp.RST || !tcp.ACK || len(tcp.Payload) > 0 || ip.TTL != 60 || i == 0 && tcp.Seq != 5001 {
						t.Errorf("rewritten to %+v", tcp)
					}
				}
				if c.residual == 0 {
					continue
				}
				for _, next := range []struct {
					client  string
					at      time.Duration
					dropped bool
				}{
					{client, c.residual - time.Second, true},
					{"192.0.2.1:40001", c.residual - time.Second, false},
					{client, c.residual + time.Second, false},
				} {
					res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, next.client, server, next.at, ">x"))
					if got := len(res.Dropped) > 0; got != next.dropped {
						t.Errorf("%s at %v: dropped %v", next.client, next.at, res.Dropped)
					}
				}
			}
		})
	}
	classIV := Then{Drop: true, Block: scope(firewall.Connection), For: always(40 * time.Second)}
	t.Run("from outside", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{TLSName: []*TLSName{rule(classIV)}})
		if res := firewalltest.Pass(box, reverse(firewalltest.Conn(t, firewall.TCP, client, server, 0, texts...))); len(res.Dropped) > 0 {
			t.Errorf("dropped %v", res.Dropped)
		}
	})
	t.Run("a SYN from outside undoes it", func(t *testing.T) {
		box := newBox(t, firewall.InPath, Set{TLSName: []*TLSName{rule(classIV)}})
		firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, server, 0, texts...))
		res := firewalltest.Pass(box, reverse(firewalltest.Conn(t, firewall.TCP, server, client, time.Second, "<"+banned, ">x")))
		if len(res.Dropped) > 0 {
			t.Errorf("dropped %v", res.Dropped)
		}
	})
	t.Run("two records in two segments", func(t *testing.T) {
		n := len(banned) - 5
		two := banned[:3] + string([]byte{0, 100}) + banned[5:105] + banned[:3] + string([]byte{byte((n - 100) >> 8), byte(n - 100)}) + banned[105:]
		box := newBox(t, firewall.InPath, Set{TLSName: []*TLSName{rule(classIV)}})
		res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+two[:50], "<", ">"+two[50:]))
		if !slices.Equal(res.Dropped, []int{5}) {
			t.Errorf("dropped %v", res.Dropped)
		}
	})
	t.Run("untouched", func(t *testing.T) {
		untouched(t, firewall.InPath, func() Set { return Set{TLSName: []*TLSName{rule(classIV)}} })
	})
}

// reverse has the frames travel the other way.
func reverse(frames []firewalltest.Frame) []firewalltest.Frame {
	for i := range frames {
		frames[i].Outbound = !frames[i].Outbound
	}
	return frames
}

func TestTLSNameOfCertificate(t *testing.T) {
	t.Parallel()
	rule := &TLSName{Names: Names{"banned.example"}, Certificate: true, Then: Then{Drop: true, Block: scope(firewall.Connection)}}
	for _, c := range []struct {
		name  string
		texts []string
		fired bool
	}{
		{"TLS 1.2, the certificate", tlsTalk(t, "front.example", "banned.example", tls.VersionTLS12), true},
		{"TLS 1.2, the SNI", tlsTalk(t, "banned.example", "front.example", tls.VersionTLS12), true},
		{"TLS 1.2, neither", tlsTalk(t, "front.example", "front.example", tls.VersionTLS12), false},
		{"TLS 1.3, the certificate", tlsTalk(t, "front.example", "banned.example", tls.VersionTLS13), false},
		{"TLS 1.3, the SNI", tlsTalk(t, "banned.example", "front.example", tls.VersionTLS13), true},
	} {
		box := newBox(t, firewall.InPath, Set{TLSName: []*TLSName{rule}})
		res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:443", 0, c.texts...))
		if fired := len(res.Events) == 1; fired != c.fired || fired != (len(res.Dropped) > 0) {
			t.Errorf("%s: fired %v, dropped %v", c.name, res.Fired(), res.Dropped)
		}
	}
	untouched(t, firewall.InPath, func() Set { return Set{TLSName: []*TLSName{rule}} })
}

func TestTLSNameInHenan(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:8443"
	set := func() Set {
		return Set{TLSName: []*TLSName{{Names: Names{"*.com.example"}, Stateless: true, NoOptions: true, Outbound: true,
			Then: Then{Reset: named[Injector](t, "henan")}}}}
	}
	banned := hello(t, "www.com.example")
	for _, c := range []struct {
		name   string
		frames []firewalltest.Frame
		forged int
	}{
		{"whole", firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+banned), 1},
		{"without a handshake", firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+banned)[3:], 1},
		{"after something else", firewalltest.Conn(t, firewall.TCP, client, server, 0, ">CONNECT x", "<200", ">"+banned), 1},
		{"each time", firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+banned, ">"+banned), 2},
		{"in two segments", firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+banned[:60], ">"+banned[60:]), 0},
		{"another name", firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+hello(t, "com.example")), 0},
		{"from outside", reverse(firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+banned)), 0},
	} {
		box := newBox(t, firewall.OnPath, set(), func(cfg *firewall.Config) { cfg.ReassembleTCP = false })
		res := firewalltest.Pass(box, c.frames)
		if len(res.Forged) != c.forged {
			t.Errorf("%s: forged %d, want %d", c.name, len(res.Forged), c.forged)
		}
		for _, f := range res.Forged {
			tcp, ip := f.Packet.Layer(layers.LayerTypeTCP).(*layers.TCP), f.Packet.NetworkLayer().(*layers.IPv4)
			if f.Outbound || !tcp.RST || !tcp.ACK || string(tcp.Payload) != "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x00" || ip.Id != 1 || ip.TTL != 58 ||
				f.After < 2300*time.Microsecond || f.After > 30500*time.Microsecond {
				t.Errorf("%s: %v after %v: %+v", c.name, ip, f.After, tcp)
			}
		}
		// And nothing is left of it.
		if res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client, server, time.Second, ">"+strings.Repeat("x", 100))); len(res.Forged) > 0 {
			t.Errorf("%s: forged %d later", c.name, len(res.Forged))
		}
	}
	// Real programs have options in their headers, so that not even the banned are touched.
	untouched(t, firewall.OnPath, func() Set {
		s := set()
		s.TLSName[0].Names = Names{"banned.example"}
		return s
	}, "direct-https-banned", "chromium-https-banned")
}
