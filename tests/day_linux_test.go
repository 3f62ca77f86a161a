package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	dayLength = flag.Duration("day", 9*time.Second, "how long TestDay lets things happen; from five minutes on it says something of memory")
	daySeed   = flag.Uint64("dayseed", 1, "what happens then")
)

// By how much what an end holds in the last third may be above the second.
const (
	moreDescriptors = 8
	moreThreads     = 8
	moreGoroutines  = 40 // than in a process that has carried the same for a moment, those of QUIC not counted: see idleLinks
	moreMemory      = 8 << 20
	memoryShare     = 0.15
	daysOfMemory    = 5 * time.Minute
	// idleLinks is how long a gateway keeps a QUIC link that its client has left without a word. A link has a goroutine for each
	// of up to 64 lanes, until more is sent.
	idleLinks = 40 * time.Second
)

// TestDay has a machine live through the days of its user, one event after another: suspends, other networks, cables out,
// links that are cut. The hours between events are left out, and events are short: a suspend is a second of SIGSTOP, so that no
// timer of hours runs out in it. Programs use the machine all the while, but for a pause after each third, in which both ends
// must come to hold what they held a third before. What arrives must be right, and nothing may go past the tunnel.
//
// Both ends live through all three thirds. Those that were there before are killed, and say how many goroutines they had.
func TestDay(t *testing.T) {
	t.Parallel()
	w, _ := withMachine(t)
	w.clientProcess = w.startClient(w.key, "--tun")
	d := &day{world: w, users: w.use(), rng: rand.New(rand.NewPCG(*daySeed, 0)), events: map[string]int{}}
	d.carries("before anything happens")
	time.Sleep(time.Second)
	d.pause()
	early := []goroutines{d.quit(w.clientProcess), d.quit(w.gatewayProcess)}
	w.gatewayProcess = w.startGateway()
	w.clientProcess = w.startClient(w.key, "--tun")
	t.Cleanup(d.pause) // before they end
	d.carries("after both were killed")

	var held [3][]holding
	for i := range held {
		for end := time.Now().Add(*dayLength / 3); time.Now().Before(end); {
			d.something(i == 0)
		}
		d.pause()
		for j, p := range []*process{w.clientProcess, w.gatewayProcess} {
			atMost := 0
			if i == 2 {
				atMost = held[1][j].descriptors + moreDescriptors
			}
			held[i] = append(held[i], settled(p, atMost))
		}
		d.carries("after a pause")
	}
	long := *dayLength >= daysOfMemory
	if long {
		d.pause()
		time.Sleep(idleLinks)
		d.carries("at the end")
	}
	d.pause()
	late := []goroutines{d.quit(w.clientProcess), d.quit(w.gatewayProcess)}
	for j, name := range []string{"client", "gateway"} {
		t.Logf("%s: %v → %v → %v; goroutines %v once warm, %v at the end", name, held[0][j], held[1][j], held[2][j],
			early[j], late[j])
		for _, why := range held[2][j].above(held[1][j]) {
			t.Errorf("%s: %s", name, why)
		}
		if late[j].others > early[j].others+moreGoroutines || long && late[j].all > early[j].all+3*moreGoroutines {
			t.Errorf("%s: goroutines: %v, and %v at the end", name, early[j], late[j])
		}
	}
	for _, what := range slices.Sorted(maps.Keys(d.events)) {
		t.Logf("%d × %s", d.events[what], what)
	}
	t.Log(d.users)
}

// A day is what happens to a world's machine, and who uses it meanwhile.
type day struct {
	*world
	*users
	rng     *rand.Rand
	events  map[string]int
	address int // which of the machine's two it has
}

// something happens, and then all is as it should be again. Gateways start again in the first third only, so that it is one of
// them that lives through the others.
func (d *day) something(restarts bool) {
	d.t.Helper()
	short := func(most time.Duration) time.Duration { return most/4 + time.Duration(d.rng.Int64N(int64(most*3/4))) }
	during := func(begin, end string, most time.Duration) {
		d.nft(begin)
		time.Sleep(short(most))
		d.nft(end)
	}
	still := func(p *process, most time.Duration) {
		_ = p.cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(short(most))
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	type event struct {
		what string
		do   func()
	}
	all := []event{
		{"suspend, with another network after it", func() {
			_ = d.clientProcess.cmd.Process.Signal(syscall.SIGSTOP)
			d.roam()
			time.Sleep(short(time.Second))
			_ = d.clientProcess.cmd.Process.Signal(syscall.SIGCONT)
		}},
		{"suspend", func() { still(d.clientProcess, 2*time.Second) }},
		{"the gateway stands still", func() { still(d.gatewayProcess, 2*time.Second) }},
		{"another address", d.roam},
		{"the interface flaps", d.flap},
		{"all is swallowed", func() {
			during("table inet bad { chain bad { type filter hook forward priority 0; drop; }; }", "delete table inet bad", 2*time.Second)
		}},
		{"connections are reset", func() {
			during("table inet bad { chain bad { type filter hook forward priority 0; meta l4proto tcp reject with tcp reset; }; }",
				"delete table inet bad", 400*time.Millisecond)
		}},
		{"UDP is off", func() {
			during("table inet bad { chain bad { type filter hook forward priority 0; meta l4proto udp drop; }; }", "delete table inet bad",
				2*time.Second)
		}},
	}
	if restarts {
		all = append(all, event{"the gateway starts again", func() {
			d.pause() // streams end with it
			if !d.gatewayProcess.stop(syscall.SIGTERM, 20*time.Second) {
				d.t.Error("the gateway does not end")
			}
			d.gatewayProcess = d.startGateway()
			// What is begun before the client has noticed ends with the old session.
			d.eventually("the client is across again", d.clientProcess, time.Minute, func() error { return d.all["page"](0) })
		}})
	}
	e := all[d.rng.IntN(len(all))]
	d.events[e.what]++
	e.do()
	d.carries("after " + e.what)
}

// roam gives the machine its other address, as another network would.
func (d *day) roam() {
	d.t.Helper()
	addrs := []string{"198.51.100.2/24", "198.51.100.3/24"}
	d.ip(d.client, "addr del "+addrs[d.address]+" dev wan\naddr add "+addrs[1-d.address]+" dev wan\nroute replace default via "+middleAddr)
	d.address = 1 - d.address
}

// flap takes the machine's cable out for a moment.
func (d *day) flap() {
	d.t.Helper()
	d.ip(d.client, "link set wan down")
	time.Sleep(200 * time.Millisecond)
	up := "link set wan up\nroute replace default via " + middleAddr
	if d.ipv6 { // which a link that goes down forgets
		up += "\naddr replace 2001:db8:1::2/64 dev wan nodad\nroute replace default via 2001:db8:1::1"
	}
	d.ip(d.client, up)
}

// carries waits until the machine is carried again, and its users are at work.
func (d *day) carries(when string) {
	d.t.Helper()
	d.resume()
	got := d.counts()
	d.eventually(when, d.clientProcess, time.Minute, func() error {
		for what, n := range d.counts() {
			if n == got[what] {
				return fmt.Errorf("no %s since", what)
			}
		}
		return nil
	})
}

// goroutines are all of a process, and those that are not QUIC's.
type goroutines struct{ all, others int }

func (g goroutines) String() string { return fmt.Sprintf("%d (%d but QUIC's)", g.all, g.others) }

// quit ends a process by SIGQUIT, upon which Go lists its goroutines.
func (d *day) quit(p *process) (g goroutines) {
	d.t.Helper()
	if !p.stop(syscall.SIGQUIT, 20*time.Second) {
		d.t.Fatal("a process does not end by SIGQUIT")
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, trace := range strings.Split(string(text), "\ngoroutine ")[1:] {
		if g.all++; !strings.Contains(trace, "quic-go") {
			g.others++
		}
	}
	if g.all == 0 {
		d.t.Fatalf("no goroutines are listed:\n%s", text)
	}
	if err := os.Truncate(p.log, 0); err != nil { // or it would pass for a crash
		d.t.Fatal(err)
	}
	return g
}

// A holding is what a process holds.
type holding struct {
	descriptors, threads int
	memory               int64 // that is its own and resident, in bytes
}

func (h holding) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %.1f MiB", h.descriptors, h.threads, float64(h.memory)/(1<<20))
}

// above says in which ways it is more than it was.
func (h holding) above(before holding) (why []string) {
	if h.descriptors > before.descriptors+moreDescriptors || h.threads > before.threads+moreThreads {
		why = append(why, fmt.Sprintf("%v, and %v at the end", before, h))
	} else if *dayLength >= daysOfMemory && float64(h.memory) > (1+memoryShare)*float64(before.memory)+moreMemory {
		why = append(why, fmt.Sprintf("memory: %v, and %v at the end", before, h))
	}
	return why
}

// settled waits until a process that nobody uses has no more than so many descriptors, or no fewer for a while, and says what it
// holds.
func settled(p *process, atMost int) (h holding) {
	enough := 500 * time.Millisecond
	if atMost > 0 {
		enough = 10 * time.Second
	}
	h = held(p)
	for last := time.Now(); h.descriptors > atMost && time.Since(last) < enough; time.Sleep(100 * time.Millisecond) {
		now := held(p)
		if now.descriptors < h.descriptors {
			last = time.Now()
		}
		h = now
	}
	return h
}

func held(p *process) (h holding) {
	dir := filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid))
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	h.descriptors = len(fds)
	text, _ := os.ReadFile(filepath.Join(dir, "status"))
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "Threads: %d", &h.threads)
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &h.memory); n == 1 {
			h.memory <<= 10
		}
	}
	return h
}
