package rules

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

func TestHTTPName(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:8080"
	get := func(target, headers string) string { return ">GET " + target + " HTTP/1.1\r\n" + headers + "\r\n" }
	long := strings.Repeat("L", 64)
	for _, c := range []struct {
		name  string
		texts []string
		fired bool
	}{
		{"the host", []string{get("/", "Host: www.banned.example\r\n")}, true},
		{"with a port", []string{get("/", "Host: banned.example:8080\r\n")}, true},
		{"before the end", []string{">GET / HTTP/1.1\r\nHost: banned.example\r\nAccept"}, true},
		{"in two segments", []string{">GET / HTTP/1.1\r\nHo", "<", ">st: banned.example\r\n\r\n"}, true},
		{"for a proxy", []string{get("http://banned.example/", "")}, true},
		{"a word", []string{get("/x/Forbidden-Word", "Host: allowed.example\r\n")}, true},
		{"a word in percent signs", []string{get("/%E7%A6%81", "Host: allowed.example\r\n")}, true},
		{"a word in GB18030", []string{get("/?q=%BD%FB", "Host: allowed.example\r\n")}, true},
		{"a word that does not end", []string{">GET /forbidden-wor", ">d"}, true},
		{"spared", []string{get("/", "Host: fine.banned.example\r\n")}, false},
		{"another host", []string{get("/", "Host: allowed.example\r\n")}, false},
		{"a long header before", []string{get("/", long+": x\r\nHost: banned.example\r\n")}, false},
		{"not long enough", []string{get("/", long[1:]+": x\r\nHost: banned.example\r\n")}, true},
		{"a long header behind", []string{get("/", "Host: banned.example\r\n"+long+": x\r\n")}, true},
		{"the second request", []string{get("/", "Host: allowed.example\r\n") + get("/", "Host: banned.example\r\n")[1:]}, false},
		{"said by the server", []string{"<" + get("/", "Host: banned.example\r\n")[1:]}, false},
		{"TLS", []string{">" + hello(t, "banned.example")}, false},
		{"SSH", []string{">SSH-2.0-banned.example\r\n"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &HTTPName{Names: Names{"banned.example"}, Except: Names{"fine.banned.example"}, Words: []string{"forbidden-word", "禁", "%bd%fb"}, LongHeader: 64,
				Then: Then{Reset: named[Injector](t, "gfw-1", "gfw-2", "gfw-3")}}
			res := firewalltest.Pass(newBox(t, firewall.OnPath, Set{HTTPName: []*HTTPName{r}}), firewalltest.Conn(t, firewall.TCP, client, server, 0, c.texts...))
			if fired := len(res.Events) == 1; fired != c.fired || fired != (len(res.Forged) == 10) || len(res.Dropped) > 0 {
				t.Errorf("fired %v, forged %d, dropped %v", res.Fired(), len(res.Forged), res.Dropped)
			}
		})
	}
}

// TestHTTPNameInChina checks how often the rule fires, and what is left of it.
func TestHTTPNameInChina(t *testing.T) {
	t.Parallel()
	const server, request = "198.51.100.1:80", ">GET / HTTP/1.1\r\nHost: banned.example\r\n\r\n"
	set := func() Set {
		return Set{HTTPName: []*HTTPName{{Names: Names{"banned.example"}, Chance: 0.75, Then: Then{Reset: named[Injector](t, "gfw-1"),
			Block: scope(firewall.Pair), For: always(90 * time.Second), Again: true, Chance: 0.6}}}}
	}
	hits, retries, cut := 0, 0, 0
	for seed := uint64(1); seed <= 20; seed++ {
		box := newBox(t, firewall.OnPath, set(), withSeed(seed))
		for n := range 50 {
			client := fmt.Sprintf("192.0.2.%d", n+1)
			if res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client+":40000", server, 0, request)); len(res.Forged) == 0 {
				continue
			}
			hits++
			retries++
			if res := firewalltest.Pass(box, firewalltest.Conn(t, firewall.TCP, client+":40001", server, 89*time.Second, ">x")); len(res.Forged) > 0 {
				cut++
			}
			for _, free := range [][]firewalltest.Frame{
				firewalltest.Conn(t, firewall.TCP, client+":40002", "198.51.100.1:8080", time.Second, ">x"),
				firewalltest.Conn(t, firewall.TCP, client+":40003", server, 91*time.Second, ">x"),
			} {
				if res := firewalltest.Pass(box, free); len(res.Forged) > 0 {
					t.Errorf("seed %d, client %d: forged %d", seed, n, len(res.Forged))
				}
			}
		}
	}
	// 750 of 1000 and 60 %, five sigma.
	if hits < 681 || hits > 819 {
		t.Errorf("%d of 1000 hits", hits)
	}
	if share := float64(cut) / float64(retries); share < 0.51 || share > 0.69 {
		t.Errorf("%.2f of the retries", share)
	}
	untouched(t, firewall.OnPath, set, "direct-https-banned", "quic-banned", "trojan", "godwit", "vmess", "https-proxy")
	always := set()
	always.HTTPName[0].Chance = 0
	if res := firewalltest.Pass(newBox(t, firewall.OnPath, always), recorded(t, "http-banned")); len(res.Events) == 0 || len(res.Forged) < 2 {
		t.Errorf("curl: fired %v, forged %d", res.Fired(), len(res.Forged))
	}
}

// TestHTTPNameInIran reads the page as a browser would.
func TestHTTPNameInIran(t *testing.T) {
	t.Parallel()
	const client, server = "192.0.2.1:40000", "198.51.100.1:8080"
	set := func() Set {
		return Set{HTTPName: []*HTTPName{{Names: Names{"banned.example"}, Opened: true, Page: true, Then: Then{Drop: true, Block: scope(firewall.Connection)}}}}
	}
	request := "GET / HTTP/1.1\r\nHost: banned.example\r\n\r\n"
	frames := firewalltest.Conn(t, firewall.TCP, client, server, 0, ">"+request, "<HTTP/1.1 200 OK\r\n\r\n", ">x")
	res := firewalltest.Pass(newBox(t, firewall.InPath, set()), frames)
	if !slices.Equal(res.Dropped, []int{3, 4, 5}) || len(res.Forged) != 2 {
		t.Fatalf("dropped %v, forged %d", res.Dropped, len(res.Forged))
	}
	page := res.Forged[0].Packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if res.Forged[0].Outbound || page.Seq != 5001 || page.Ack != 1001+uint32(len(request)) || !page.FIN || !page.ACK || page.RST {
		t.Errorf("%+v", page)
	}
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(page.Payload)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusForbidden || !answer.Close || string(body) != forbidden {
		t.Errorf("%v: %q, %v", answer.Status, body, err)
	}
	reset := res.Forged[1].Packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !res.Forged[1].Outbound || reset.Seq != 1001 || reset.Ack != 5001 || !reset.RST {
		t.Errorf("%+v", reset)
	}
	if res := firewalltest.Pass(newBox(t, firewall.InPath, set()), frames[3:]); len(res.Forged) > 0 {
		t.Error("a connection whose SYN was not seen is answered")
	}
	if res := firewalltest.Pass(newBox(t, firewall.InPath, set()), recorded(t, "http-banned")); len(res.Forged) != 2 || len(res.Dropped) == 0 {
		t.Errorf("curl: forged %d, dropped %v", len(res.Forged), res.Dropped)
	}
	untouched(t, firewall.InPath, set, "direct-https-banned")
}

func TestHTTPNameInHenan(t *testing.T) {
	t.Parallel()
	set := func() Set {
		return Set{HTTPName: []*HTTPName{{Names: Names{"banned.example"}, Stateless: true, NoOptions: true, Outbound: true, Then: Then{Reset: named[Injector](t, "henan")}}}}
	}
	const request = ">GET / HTTP/1.1\r\nHost: banned.example\r\n\r\n"
	frames := firewalltest.Conn(t, firewall.TCP, "192.0.2.1:40000", "198.51.100.1:80", 0, ">x", request, request)
	for name, c := range map[string]struct {
		frames []firewalltest.Frame
		forged int
	}{"each request": {frames, 2}, "without a handshake": {frames[4:], 2}, "curl, whose headers have options": {recorded(t, "http-banned"), 0}} {
		res := firewalltest.Pass(newBox(t, firewall.OnPath, set(), func(cfg *firewall.Config) { cfg.ReassembleTCP = false }), c.frames)
		if len(res.Forged) != c.forged || len(res.Forged) > 0 && res.Forged[0].Outbound {
			t.Errorf("%s: forged %d", name, len(res.Forged))
		}
	}
	if res := firewalltest.Pass(newBox(t, firewall.OnPath, set()), reverse(frames)); len(res.Forged) > 0 {
		t.Error("requests from outside are answered")
	}
}

func TestHTTPNameChecks(t *testing.T) {
	t.Parallel()
	names := Names{"banned.example"}
	for field, r := range map[string]*HTTPName{
		"names":       {Then: Then{Drop: true}},
		"page":        {Names: names, Page: true, Then: Then{Block: scope(firewall.Pair)}},
		"long-header": {Names: names, LongHeader: -1, Then: Then{Drop: true}},
		"then":        {Words: []string{"x"}},
	} {
		wantField(t, firewall.InPath, Set{HTTPName: []*HTTPName{r}}, field)
	}
}
