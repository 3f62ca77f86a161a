package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/lab/devtools"
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

// settle waits until what is on the wire has arrived, and takes it.
func (x *wire) settle() []frame {
	time.Sleep(10 * x.delay) // the wire's own time
	return x.take()
}

// visitGateway has Chromium visit the gateway's website: someone new, and the same one again with the site's cookie, first
// in a browser that was just started, and then in the same one, when its connections are gone. It says of itself what the
// profile says, which is what ours says, so that the lengths can be compared.
func (w *world) visitGateway(x *wire, b *devtools.Browser, c *capture) {
	w.t.Helper()
	var cookies []devtools.Cookie
	x.take()
	for i := range 2 * *camouflage {
		kind := []string{newVisitors, returning}[i%2]
		win, err := b.Window("")
		if err == nil && kind == returning {
			err = win.SetCookies(cookies)
		}
		if err == nil {
			err = sayMostPeoples(win)
		}
		if err == nil {
			err = win.Open("https://" + gatewayName + "/")
		}
		if err == nil && kind == newVisitors {
			cookies, err = win.Cookies()
		}
		if err == nil {
			time.Sleep(500 * time.Millisecond) // for what it fetches besides
			w.addVisit(c, kind, x.settle())
		}
		for n, before := 0, len(c.conns[revisits]); kind == returning && err == nil && len(c.conns[revisits]) == before; n++ {
			if n == mostAgain {
				w.t.Fatalf("Chromium came back %d times without resuming a session", n)
			}
			if err = w.visitAgain(x, win); err == nil {
				w.addVisit(c, kind, x.settle())
			}
		}
		if err == nil {
			err = win.Close()
		}
		if err != nil {
			w.t.Fatalf("Chromium: %v", err)
		}
		if i == 0 && len(cookies) != 1 {
			w.t.Errorf("the website set %d cookies: one is expected, as long as a knock", len(cookies))
		}
		c.frames = append(c.frames, x.settle()...)
	}
}

// visitAgain has a window load the gateway's page on new connections. What it keeps of the page is forgotten, or it would
// ask whether that has changed.
func (w *world) visitAgain(x *wire, win *devtools.Window) error {
	w.t.Helper()
	const passing = "198.51.100.77/32"
	// When this machine gets an address, Chromium closes what it has open.
	w.ip(w.client, "addr add "+passing+" dev wan")
	time.Sleep(500 * time.Millisecond)
	w.ip(w.client, "addr del "+passing+" dev wan")
	time.Sleep(500 * time.Millisecond)
	if err := win.ForgetPages(); err != nil {
		return err
	}
	if err := win.Open("https://" + gatewayName + "/"); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	return nil
}

// addVisit adds the connections of one visit that carried a request: Chromium opens some that it does not use. When it
// opens two of them and has one ticket, the one that it uses may be the one without.
func (w *world) addVisit(c *capture, kind string, frames []frame) {
	w.t.Helper()
	c.frames = append(c.frames, frames...)
	used := 0
	for _, conn := range watchedIn(frames) {
		if up, _ := conn.firsts(time.Time{}); len(up) > 3 {
			used++
			if kind == returning && conn.comesBack() {
				c.add(revisits, nil, conn)
			} else {
				c.add(kind, nil, conn)
			}
		}
	}
	if used == 0 {
		w.t.Errorf("%s: no connection was used", kind)
	}
}

// visitOther has Chromium visit a site that is nobody's, with a certificate as a CA's.
func (w *world) visitOther(x *wire, b *devtools.Browser, c *capture, url string) {
	w.t.Helper()
	for range *camouflage {
		if err := loadPage(b, "", url); err != nil {
			w.t.Fatalf("Chromium: %v", err)
		}
		w.addVisit(c, otherSite, x.settle())
	}
}

// loadPage loads a page in a window of its own.
func loadPage(b *devtools.Browser, proxy, url string) error {
	win, err := b.Window(proxy)
	if err != nil {
		return err
	}
	if err := win.Open(url); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond)
	return win.Close()
}

// openLinks starts a client again and again, which opens two links each time, a first one and one that comes back, and
// leaves them idle, and then loads a page over them, by curl and by Chromium in turn.
func (w *world) openLinks(x *wire, b *devtools.Browser, c *capture) {
	w.t.Helper()
	x.take()
	for i := range *camouflage {
		p := w.startClient(w.key, "--transport", "https")
		time.Sleep(3 * time.Second) // the second link is dialled half a second after the first
		until := time.Now()
		time.Sleep(*idle) // what it says now and then, people can read
		over := curlOver
		if i%2 == 0 {
			w.curlOK("--insecure", "--socks5-hostname", proxyAddr, chainURL)
		} else {
			over = browserOver
			if err := loadPage(b, "socks5://"+proxyAddr, chainURL); err != nil {
				w.t.Fatalf("Chromium through the tunnel: %v", err)
			}
		}
		time.Sleep(500 * time.Millisecond)
		p.stop(syscall.SIGTERM, 10*time.Second)
		frames := x.settle()
		c.frames = append(c.frames, frames...)
		conns := slices.DeleteFunc(watchedIn(frames), func(conn *watched) bool {
			return len(conn.segments) == 0 // a dial that the client's end cut short
		})
		for n, conn := range conns {
			c.until[conn] = until
			kind := links
			if conn.comesBack() {
				kind = backLinks
			}
			if conn.comesBack() != (n > 0) {
				w.t.Errorf("link %d comes back %v", n+1, conn.comesBack())
			}
			c.add(kind, nil, conn)
			if up, _ := conn.firsts(time.Time{}); len(up) >= usedRecords { // this one carried the page
				c.add(over, nil, conn)
			}
		}
	}
}

// useLinksAtOnce loads a page the moment that the proxy takes connections.
func (w *world) useLinksAtOnce(x *wire, c *capture) {
	w.t.Helper()
	for range max(2, *camouflage/4) {
		p := w.start("client", w.client.command(godwit(w.t), "up", "--foreground", "--state-dir", w.clientDir(),
			"--transport", "https", "--browser", "chrome", "--links", "1", "--proxy", proxyAddr, w.key))
		w.eventually("proxy listens", p, 30*time.Second, func() error {
			conn, err := w.client.dial(proxyAddr)
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		w.curlOK("--insecure", "--socks5-hostname", proxyAddr, chainURL)
		time.Sleep(500 * time.Millisecond)
		p.stop(syscall.SIGTERM, 10*time.Second)
		frames := x.settle()
		c.add(early, frames, watchedIn(frames)...)
	}
}

// tunnelPlainly loads the page through a tunnel that is nothing but TLS with Chrome's hello.
func (w *world) tunnelPlainly(x *wire, b *devtools.Browser, c *capture) {
	w.t.Helper()
	for range (*camouflage + 1) / 2 {
		w.curlOK("--insecure", "--proxy", "http://"+naiveProxy, chainURL)
		frames := x.settle()
		c.add(curlNaive, frames, watchedIn(frames)...)
		if err := loadPage(b, "http://"+naiveProxy, chainURL); err != nil {
			w.t.Fatalf("Chromium through a plain tunnel: %v", err)
		}
		frames = x.settle()
		c.add(naiveOver, frames, watchedIn(frames)...)
	}
}

// curlOK has curl fetch something on the client's machine, which must work.
func (w *world) curlOK(args ...string) {
	w.t.Helper()
	if code, out := w.curl(append([]string{"--output", "/dev/null"}, args...)...); code != 0 {
		w.t.Fatalf("curl %v ended with %d: %s", args, code, out)
	}
}

// sayMostPeoples makes the window's Chromium say of itself what most people's Chrome does, as the profile has it.
func sayMostPeoples(win *devtools.Window) error {
	text, err := os.ReadFile(profileFile)
	if err != nil {
		return err
	}
	p, err := chrome.ParseProfile(text)
	if err != nil {
		return err
	}
	var brands []any
	agent := ""
	for _, line := range p.HTTP2.Headers {
		if v, ok := strings.CutPrefix(line, "user-agent: "); ok {
			agent = v
		}
		if v, ok := strings.CutPrefix(line, "sec-ch-ua: "); ok {
			for one := range strings.SplitSeq(v, ", ") {
				if m := brand.FindStringSubmatch(one); m != nil {
					brands = append(brands, map[string]any{"brand": m[1], "version": m[2]})
				}
			}
		}
	}
	_, err = win.Call("Network.setUserAgentOverride", map[string]any{"userAgent": agent,
		"userAgentMetadata": map[string]any{"brands": brands, "platform": "Windows", "platformVersion": "10",
			"architecture": "x86", "model": "", "mobile": false}})
	return err
}

// A mark is what is compared of a record.
type mark struct {
	size  int
	alone bool
}

func (m mark) String() string { return fmt.Sprint(m.size) }

// firsts are the first records each way that passed before a moment, or ever. The server's acknowledgement of SETTINGS
// and the window it opens are one record or two, as its goroutines race: here they are one.
func (c *watched) firsts(until time.Time) (up, down []mark) {
	for _, r := range c.records {
		if !until.IsZero() && r.at.After(until) {
			continue
		}
		m := mark{r.size, r.alone}
		if r.up {
			up = append(up, m)
			continue
		}
		if n := len(down); n > 0 && down[n-1].size == windowRecord && r.size == ackRecord {
			down[n-1].size = windowRecord + ackRecord - recordOverhead
			continue
		}
		down = append(down, m)
	}
	return up[:min(len(up), mostRecords)], down[:min(len(down), mostRecords)]
}

const (
	recordOverhead = 17                     // the type inside, and the tag
	ackRecord      = 9 + recordOverhead     // SETTINGS ACK
	windowRecord   = 9 + 4 + recordOverhead // WINDOW_UPDATE
	helloSizes     = 3 * 32                 // between the least and the largest of encrypted_client_hello's
	cookieSpread   = 8                      // letters of random cookies take five to eight bits each
	usualSpread    = 2                      // a signature's, a date's
)

// spread is by how much two visits' records at one place can differ by what is drawn by lot.
func spread(up bool, i int) int {
	switch {
	case up && i == 0:
		return helloSizes
	case up && i == 4:
		return cookieSpread
	}
	return usualSpread
}

// compareHellos compares the hellos field by field.
func (c *capture) compareHellos(t *testing.T) {
	for _, pair := range [][2]*visitor{
		{c.visitor(t, "Chromium", newVisitors, returning), c.visitor(t, "ours", links, early)},
		{c.visitor(t, "Chromium, coming back", revisits), c.visitor(t, "ours, coming back", backLinks)},
	} {
		browser, ours := pair[0], pair[1]
		if len(browser.hellos) < *camouflage || len(ours.hellos) < *camouflage {
			t.Fatalf("%s: %d hellos; %s: %d", browser.name, len(browser.hellos), ours.name, len(ours.hellos))
		}
		t.Logf("%s: %d hellos, JA4 %s; %s: %d hellos, JA4 %s", browser.name, len(browser.hellos), browser.hellos[0].JA4(),
			ours.name, len(ours.hellos), ours.hellos[0].JA4())
		if d := compareHellos(browser, ours, profileOf(t, profileFile)); d != nil {
			t.Errorf("the hellos differ:\n%s\n%s", strings.Join(d, "\n"), howToUpdate)
		}
	}
}

func (c *capture) visitor(t *testing.T, name string, kinds ...string) *visitor {
	t.Helper()
	v := &visitor{name: name}
	for _, kind := range kinds {
		for _, conn := range c.conns[kind] {
			hello, err := clienthello.ParseHello(conn.hello)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			v.hellos = append(v.hellos, hello)
		}
	}
	return v
}

// compareRecords asks of each link whether some visit of Chromium's that is as new has the same first records from the
// client, and has had each of those from the server; and of each record whether it is about as often alone in its segment.
func (c *capture) compareRecords(t *testing.T) {
	odd, all := map[*watched]string{}, 0
	for _, like := range likeness {
		all += len(c.conns[like.links])
		for _, up := range []bool{true, false} {
			c.compareWay(t, like.links, like.visits, up, odd)
		}
	}
	// On a busy machine some that are tired come late.
	if len(odd) > max(1, all/10) {
		t.Errorf("%d of %d links have first records that no visit of Chromium's has: %v", len(odd), all,
			slices.Collect(maps.Values(odd)))
	} else if len(odd) > 0 {
		t.Logf("%d of %d links are odd: %v", len(odd), all, slices.Collect(maps.Values(odd)))
	}
	c.tellOrder(t)
	c.tellRest(t)
}

// compareWay compares links' records in one direction with those of visits, and notes which links are odd.
func (c *capture) compareWay(t *testing.T, kind string, visits []string, up bool, odd map[*watched]string) {
	t.Helper()
	way := map[bool]string{true: "from the client", false: "from the server"}[up]
	var table strings.Builder
	fmt.Fprintf(&table, "records %s, sizes (how many, if not all; s: shares a segment)\n%4s", way, "")
	shown := append(slices.Clone(visits), kind)
	for _, name := range shown {
		fmt.Fprintf(&table, "  %-40s", name)
	}
	for i := range mostRecords {
		want, got := c.place(visits[0], up, i), c.place(kind, up, i)
		if len(want.at)+len(got.at) == 0 {
			break
		}
		fmt.Fprintf(&table, "\n%4d", i+1)
		for _, name := range shown {
			fmt.Fprintf(&table, "  %-40s", c.place(name, up, i))
		}
		if len(want.at) > 0 && len(got.at) > 0 && math.Abs(want.alone()-got.alone()) > 0.9 {
			t.Errorf("record %d %s is alone in its segment in %.0f %% of %q, in %.0f %% of %q", i+1, way,
				100*want.alone(), visits[0], 100*got.alone(), kind)
		}
	}
	t.Log(table.String())
	for _, link := range c.conns[kind] {
		ours := c.marks(link, up)
		if !up { // a server's goroutines race, at both: what it writes in one record or in two is a matter of moments
			for i, m := range ours {
				if !c.seen(visits, m, i) {
					odd[link] += fmt.Sprintf(" %s, record %d from the server: %v", kind, i+1, m)
				}
			}
			continue
		}
		if !slices.ContainsFunc(c.conns[visits[0]], func(visit *watched) bool {
			return begins(c.marks(visit, up), ours, up)
		}) {
			odd[link] += fmt.Sprintf(" %s, %s: %v", kind, way, ours)
		}
	}
}

// marks are a connection's first records in one direction.
func (c *capture) marks(conn *watched, up bool) []mark {
	ups, downs := conn.firsts(c.until[conn])
	if up {
		return ups
	}
	return downs
}

// begins reports whether a visit begins as a link does, but for what is drawn by lot.
func begins(visit, link []mark, up bool) bool {
	if len(link) > len(visit) {
		return false
	}
	for i, m := range link {
		if d := m.size - visit[i].size; max(d, -d) > spread(up, i) {
			return false
		}
	}
	return true
}

// A place is what was seen of one kind's records at one place.
type place struct {
	at  map[*watched]mark
	all int
}

func (c *capture) place(kind string, up bool, i int) place {
	p := place{at: map[*watched]mark{}, all: len(c.conns[kind])}
	for _, conn := range c.conns[kind] {
		if marks := c.marks(conn, up); i < len(marks) {
			p.at[conn] = marks[i]
		}
	}
	return p
}

// seen reports whether visits of Chromium's had such a record from the server there, or a place before or after it.
func (c *capture) seen(visits []string, m mark, at int) bool {
	for _, kind := range visits {
		for i := max(0, at-1); i <= at+1; i++ {
			for _, had := range c.place(kind, false, i).at {
				if d := m.size - had.size; max(d, -d) <= spread(false, at) {
					return true
				}
			}
		}
	}
	return false
}

// alone is the share of records that have a segment of their own.
func (p place) alone() float64 {
	n := 0
	for _, m := range p.at {
		if m.alone {
			n++
		}
	}
	return float64(n) / float64(max(1, len(p.at)))
}

func (p place) String() string {
	if len(p.at) == 0 {
		return "–"
	}
	sizes := map[int]int{}
	for _, m := range p.at {
		sizes[m.size]++
	}
	var s []string
	for _, size := range slices.Sorted(maps.Keys(sizes)) {
		one := fmt.Sprint(size)
		if n := sizes[size]; n < p.all {
			one += fmt.Sprintf("(%d)", n)
		}
		s = append(s, one)
	}
	if p.alone() <= 0.5 {
		s = append(s, "s")
	}
	return strings.Join(s, " ")
}

// tellOrder tells in which order the ways' records come, which is a matter of moments at both.
func (c *capture) tellOrder(t *testing.T) {
	t.Helper()
	for _, kind := range []string{returning, links, revisits, backLinks} {
		var ackFirst, all int
		var times []time.Duration
		for _, conn := range c.conns[kind] {
			var ack, answer, finished, request time.Time
			up, down := 0, 0
			if conn.comesBack() {
				down = 2 // the server's certificate and its signature, which it does not send then
			}
			for _, r := range conn.records {
				if r.up {
					up++
				} else {
					down++
				}
				switch {
				case r.up && up == 3:
					finished = r.at
				case r.up && up == 5:
					request = r.at
				case r.up && up == 6:
					ack = r.at
				case !r.up && r.size > 2*ackRecord && down > 8 && answer.IsZero():
					answer = r.at
				}
			}
			if ack.IsZero() || answer.IsZero() {
				continue
			}
			all++
			if ack.Before(answer) {
				ackFirst++
			}
			times = append(times, request.Sub(finished))
		}
		slices.Sort(times)
		if len(times) == 0 {
			continue
		}
		t.Logf("%s: SETTINGS ACK before the answer in %d of %d; HEADERS %v after Finished (median)", kind, ackFirst, all,
			times[len(times)/2].Round(10*time.Microsecond))
	}
}

// tellRest tells what follows, which is compared with nothing.
func (c *capture) tellRest(t *testing.T) {
	t.Helper()
	for _, kind := range []string{newVisitors, returning, revisits, links, backLinks, early, curlOver, browserOver} {
		conns := c.conns[kind]
		if len(conns) == 0 {
			continue
		}
		conn := conns[len(conns)-1]
		var b strings.Builder
		for i, r := range conn.records {
			if i > 60 {
				b.WriteString(" …")
				break
			}
			fmt.Fprintf(&b, " %s%d", map[bool]string{true: "↑", false: "↓"}[r.up], r.size)
			if i+1 < len(conn.records) {
				if gap := conn.records[i+1].at.Sub(r.at); gap > 4*oneWay {
					fmt.Fprintf(&b, " (%v)", gap.Round(10*time.Millisecond))
				}
			}
		}
		t.Logf("%s, for example:%s, %s", kind, b.String(), conn.end)
	}
}
