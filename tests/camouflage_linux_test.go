package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/tests/visitors"
)

var (
	camouflage = flag.Int("camouflage", 12, "how many connections of each kind TestCamouflage compares")
	idle       = flag.Duration("idle", 0, "how much longer TestCamouflage watches a link that has nothing to carry")
	keepPcap   = flag.String("pcap", "", "directory to keep TestCamouflage's captures in")
)

const (
	gatewayName = "gateway.example"
	oneWay      = 20 * time.Millisecond
	mostRecords = 14 // each way, of which the server's handshake takes seven, or five where it resumes
	mostAgain   = 5  // visits of a browser until one resumes
	usedRecords = 10 // a client sends fewer on a link that nobody uses
)

// The kinds of connections that are told apart, or not. Who comes back resumes a TLS session.
const (
	newVisitors = "Chromium, a first visit"
	returning   = "Chromium, with the site's cookie"
	revisits    = "Chromium, coming back"
	otherSite   = "Chromium, another site"
	links       = "a link"
	backLinks   = "a link, coming back"
	early       = "a link, used at once"
	curlOver    = "a link, curl over it"
	browserOver = "a link, Chromium over it"
	curlNaive   = "plain tunnel, curl over it"
	naiveOver   = "plain tunnel, Chromium over it"
)

// kinds are in the order in which people read of them.
var kinds = []string{newVisitors, returning, revisits, otherSite, links, backLinks, early, curlOver, browserOver, curlNaive, naiveOver}

// likeness says for each kind of link which visits of Chromium's it must look like: of those, the first one also in the
// sizes of all that the client sends.
var likeness = []struct {
	links  string
	visits []string
}{{links, []string{returning, newVisitors}}, {backLinks, []string{revisits}}}

// visitsLike are the kinds of Chromium's visits that a link must look like: as new as it is, or not.
func visitsLike(link *watched) []string {
	if link.comesBack() {
		return []string{revisits}
	}
	return []string{newVisitors, returning}
}

// A capture is what the watcher has, sorted by what it really was.
type capture struct {
	frames []frame
	conns  map[string][]*watched
	until  map[*watched]time.Time // the end of what is compared of a connection
	ranges int                    // of ports that connections have come from
}

func (c *capture) add(kind string, frames []frame, conns ...*watched) {
	c.frames = append(c.frames, frames...)
	c.conns[kind] = append(c.conns[kind], conns...)
}

// TestCamouflage has a watcher in the middle of a long path see links being opened, and Chromium visiting the website of
// the same gateway, and asks whether it can tell them apart: by the lengths of the records and what shares a segment, by
// published rules, and by programs that classify traffic. docs/camouflage.md has what it said.
func TestCamouflage(t *testing.T) {
	needGodwit(t)
	need(t, "chromium", "curl")
	w := newWorld(t)
	w.endpoint = gatewayName + ":" + gatewayPort
	w.client.files["/etc/hosts"] = w.write("client.hosts", "127.0.0.1 localhost\n"+gatewayAddr+" "+gatewayName+"\n")
	w.initGateway()
	x := w.newWire(oneWay)
	w.gatewayProcess = w.startGateway()
	cert := w.chain()
	other := w.newChainSite(cert)
	w.newNaiveTunnel(cert)
	b := w.browse()

	c := &capture{conns: map[string][]*watched{}, until: map[*watched]time.Time{}}
	w.visitGateway(x, b, c)
	w.visitOther(x, b, c, other)
	w.openLinks(x, b, c)
	w.useLinksAtOnce(x, c)
	w.tunnelPlainly(x, b, c)

	dir := w.dir
	if *keepPcap != "" {
		dir = *keepPcap
	}
	pcap := filepath.Join(dir, "camouflage.pcap")
	writePcap(t, pcap, c.frames)
	c.writeKinds(t, filepath.Join(dir, "camouflage.txt"))

	t.Run("hellos", func(t *testing.T) { c.compareHellos(t) })
	t.Run("records", func(t *testing.T) { c.compareRecords(t) })
	t.Run("rules", func(t *testing.T) { c.applyRules(t) })
	t.Run("ndpi", func(t *testing.T) { c.askNDPI(t, w, pcap) })
	t.Run("tshark", func(t *testing.T) { c.askTshark(t, w, pcap) })
}

// writeKinds says which of the capture's connections are what, for people with other tools.
func (c *capture) writeKinds(t *testing.T, path string) {
	t.Helper()
	var b strings.Builder
	for _, kind := range kinds {
		for _, conn := range c.conns[kind] {
			fmt.Fprintf(&b, "%v\t%s\n", conn.client, kind)
		}
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// compareHellos compares the hellos field by field.
func (c *capture) compareHellos(t *testing.T) {
	for _, pair := range [][2]*visitors.Visitor{
		{c.visitor(t, "Chromium", newVisitors, returning), c.visitor(t, "ours", links, early)},
		{c.visitor(t, "Chromium, coming back", revisits), c.visitor(t, "ours, coming back", backLinks)},
	} {
		browser, ours := pair[0], pair[1]
		if len(browser.Hellos) < *camouflage || len(ours.Hellos) < *camouflage {
			t.Fatalf("%s: %d hellos; %s: %d", browser.Name, len(browser.Hellos), ours.Name, len(ours.Hellos))
		}
		t.Logf("%s: %d hellos, JA4 %s; %s: %d hellos, JA4 %s", browser.Name, len(browser.Hellos), browser.Hellos[0].JA4(),
			ours.Name, len(ours.Hellos), ours.Hellos[0].JA4())
		if d := compareHellos(browser, ours, profileOf(t, profileFile)); d != nil {
			t.Errorf("the hellos differ:\n%s\n%s", strings.Join(d, "\n"), howToUpdate)
		}
	}
}

func (c *capture) visitor(t *testing.T, name string, kinds ...string) *visitors.Visitor {
	t.Helper()
	v := &visitors.Visitor{Name: name}
	for _, kind := range kinds {
		for _, conn := range c.conns[kind] {
			hello, err := clienthello.ParseHello(conn.hello)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			v.Hellos = append(v.Hellos, hello)
		}
	}
	return v
}
