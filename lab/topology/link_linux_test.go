package topology

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
)

var linkSeconds = flag.Int("link-seconds", 1, "how long each measurement of the link model takes; more than 1 measures more")

// TestLinkAsOthersSeeIt compares the link model with what ping and iperf3 say of it. Errors are stated (-v shows the
// table, docs/lab.md has one); judged is only what must be so on the busiest machine.
func TestLinkAsOthersSeeIt(t *testing.T) {
	needPrograms(t, "ping", "iperf3")
	// The kernel, not Go's scheduler, decides who runs.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 6))
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	row := func(link, what, asked, found, off string) {
		fmt.Fprintf(table, "| %s\t| %s\t| %s\t| %s\t| %s\t|\n", link, what, asked, found, off)
	}
	row("link", "what", "asked", "found", "error")

	for _, c := range []struct {
		link  string
		mbit  int // of payload, offered by iperf3; 0 for ping alone
		v6    bool
		quick bool // measured each time
	}{
		{link: "", mbit: 100},
		{link: "delay=50ms", mbit: 50},
		{link: "delay=50ms", mbit: 50, v6: true},
		{link: "delay=20ms jitter=10ms", quick: true},
		{link: "delay=5ms forward.loss=1%", mbit: 100},
		{link: "delay=5ms forward.loss=3%", mbit: 100, quick: true},
		{link: "delay=5ms forward.burst_start=0.2% forward.burst_end=10%", mbit: 100},
		{link: "delay=5ms duplicate=10%"},
		{link: "delay=5ms forward.rate=20mbit", mbit: 30},
		{link: "delay=5ms forward.police_rate=10mbit forward.police_burst=64000", mbit: 30, quick: true},
	} {
		if *linkSeconds < 2 && !c.quick {
			continue
		}
		t.Run(c.link, func(t *testing.T) {
			n := start(t, "inside client 192.0.2.10 2001:db8:1::10\noutside gateway 198.51.100.10 2001:db8:2::10\n"+
				"firewall fw "+c.link, nil)
			link := n.description.Firewalls[0]
			addr := "198.51.100.10"
			if c.v6 {
				addr = "2001:db8:2::10"
			}
			label := c.link
			if c.v6 {
				label += ", IPv6"
			}
			if label == "" {
				label = "(none)"
			}
			p := ping(t, n.Hosts["client"], addr)
			least := link.Forward.Delay + link.Backward.Delay
			mean := least + (link.Forward.Jitter+link.Backward.Jitter)/2
			row(label, "ping, least", msText(least), msText(p.min), msOff(p.min, least))
			row(label, "ping, mean", msText(mean), msText(p.mean), msOff(p.mean, mean))
			early := max(least/500, 50*time.Microsecond) // half a grain at either end
			if p.got > 0 && p.min < least-early {
				t.Errorf("a ping came back after %v on a path of %v", p.min, least)
			}
			if d := link.Forward.Duplicate; d > 0 {
				asked := 1 + d // one copy there, of which each may come back twice
				asked *= 1 + link.Backward.Duplicate
				found := float64(p.got+p.duplicates) / float64(max(1, p.got))
				row(label, "ping, answers for each", fmt.Sprintf("%.2f", asked), fmt.Sprintf("%.2f", found), fmt.Sprintf("%+.2f", found-asked))
			}
			if c.mbit == 0 {
				return
			}
			u := iperf(t, n, addr, c.mbit, 1400)
			fw, _, err := n.Stats("fw")
			if err != nil {
				t.Fatal(err)
			}
			const overhead = 8 + 14 // UDP and Ethernet; 20 or 40 of IP
			frame := 1400 + overhead + 20
			if c.v6 {
				frame += 20
			}
			carried := u.bits * float64(frame) / 1400 / 1e6 // Mbit/s as the link counts them
			asked, gone := float64(c.mbit)*float64(frame)/1400, lossOf(link.Forward)
			switch f := link.Forward; {
			case f.Rate > 0:
				asked = min(asked, float64(f.Rate)/1e6)
			case f.PoliceRate > 0:
				asked = min(asked, float64(f.PoliceRate)/1e6+float64(f.PoliceBurst)*8/1e6/u.seconds)
			default:
				sigma := math.Sqrt(gone * (1 - gone) / float64(max(1, u.packets)))
				if f.BurstStart > 0 { // neighbours share their fate
					together := 1 - f.BurstStart - f.BurstEnd
					sigma *= math.Sqrt((1 + together) / (1 - together))
				}
				found := float64(u.lost) / float64(max(1, u.packets))
				row(label, "iperf3, lost", fmt.Sprintf("%.2f %%", gone*100), fmt.Sprintf("%.2f %%", found*100),
					fmt.Sprintf("%+.2f points (1 sigma %.2f)", (found-gone)*100, sigma*100))
			}
			asked *= 1 - gone
			row(label, "iperf3, Mbit/s", fmt.Sprintf("%.1f", asked), fmt.Sprintf("%.1f", carried), fmt.Sprintf("%+.1f %%", (carried/asked-1)*100))
			if fw.Faithful() && u.packets == 0 {
				t.Error("nothing came through")
			}
		})
	}
	mtu(t)
	packets(t, row)
	table.Flush()
	t.Log("\n" + text.String())
}

// lossOf is the mean loss of a direction.
func lossOf(d linkmodel.Direction) float64 {
	if d.BurstStart == 0 {
		return d.Loss
	}
	in := d.BurstStart / (d.BurstStart + d.BurstEnd)
	return in*max(d.BurstLoss, 1) + (1-in)*d.Loss
}

func msText(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }
func msOff(found, asked time.Duration) string {
	return fmt.Sprintf("%+.2f ms", (found-asked).Seconds()*1e3)
}

// mtu lets ping find a narrow link.
func mtu(t *testing.T) {
	t.Run("mtu", func(t *testing.T) {
		n := start(t, "inside client 192.0.2.10\noutside gateway 198.51.100.10\nfirewall fw mtu=1400", nil)
		client := n.Hosts["client"]
		if out := output(client, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1472", "198.51.100.10"); !strings.Contains(out, "mtu = 1400") &&
			!strings.Contains(out, "mtu=1400") {
			t.Errorf("ping did not find the MTU:\n%s", out)
		}
		if out := output(client, "ping", "-n", "-c", "2", "-i", "0.2", "-M", "dont", "-s", "3000", "198.51.100.10"); !strings.Contains(out, " 2 received") {
			t.Errorf("fragments do not pass:\n%s", out)
		}
	})
}

// packets counts what two firewalls with boxes in a row carry.
func packets(t *testing.T, row func(link, what, asked, found, off string)) {
	t.Run("packets", func(t *testing.T) {
		pass := boxFunc(func(_ time.Duration, forward bool, frame []byte, emit linkmodel.Emit) { emit(forward, 0, frame) })
		n := start(t, "inside client 192.0.2.10\noutside gateway 198.51.100.10\nfirewall a\nfirewall b",
			map[string]linkmodel.Box{"a": pass, "b": pass})
		for _, c := range []struct{ mbit, size int }{{220, 1400}, {20, 64}, {40, 64}} {
			u := iperf(t, n, "198.51.100.10", c.mbit, c.size)
			frame := float64(c.size + 42)
			row("two firewalls, boxes that pass all", fmt.Sprintf("iperf3, frames of %.0f bytes", frame),
				fmt.Sprintf("%.0f Mbit/s", float64(c.mbit)*frame/float64(c.size)),
				fmt.Sprintf("%.1f Mbit/s, %.0f frames/s", u.bits/1e6*frame/float64(c.size), u.bits/8/float64(c.size)),
				fmt.Sprintf("%.2f %% lost", 100*float64(u.lost)/float64(max(1, u.packets))))
		}
		for _, name := range []string{"a", "b"} {
			fw, bw, err := n.Stats(name)
			t.Logf("%s: forward %+v, backward %+v, %v", name, fw, bw, err)
		}
	})
}

// packageOf is Debian's.
var packageOf = map[string]string{"ping": "iputils-ping", "iperf3": "iperf3"}

func needPrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: apt-get install %s", p, packageOf[p])
		}
	}
}

// output runs a program on a host and returns all that it says.
func output(h *netns.Host, program string, args ...string) string {
	cmd := exec.Command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		return err.Error()
	}
	cmd.Wait()
	return out.String()
}

type pinged struct {
	got, duplicates int
	min, mean       time.Duration
}

var (
	pingCounts = regexp.MustCompile(`(\d+) received(?:, \+(\d+) duplicates)?`)
	pingTimes  = regexp.MustCompile(`= ([\d.]+)/([\d.]+)/`)
)

func ping(t *testing.T, h *netns.Host, addr string) (p pinged) {
	t.Helper()
	out := output(h, "ping", "-n", "-q", "-i", "0.01", "-c", strconv.Itoa(100**linkSeconds), addr)
	counts := pingCounts.FindStringSubmatch(out)
	if counts == nil {
		t.Fatalf("ping says:\n%s", out)
	}
	p.got, _ = strconv.Atoi(counts[1])
	p.duplicates, _ = strconv.Atoi(counts[2])
	if times := pingTimes.FindStringSubmatch(out); times != nil {
		p.min, _ = time.ParseDuration(times[1] + "ms")
		p.mean, _ = time.ParseDuration(times[2] + "ms")
	}
	return p
}

type iperfed struct {
	bits    float64 // of payload per second, that came to the gateway
	seconds float64
	packets int
	lost    int // on the way
	late    int // lost because iperf3 was too busy to take them
}

// overflows counts the datagrams that a host's programs were too busy to take.
func overflows(t *testing.T, h *netns.Host) (n int) {
	t.Helper()
	err := h.Do(func() error {
		v4, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		v6, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		udp := regexp.MustCompile(`(?m)^Udp: (.*)$`).FindAllStringSubmatch(string(v4), -1) // a line of names, one of values
		at := slices.Index(strings.Fields(udp[0][1]), "RcvbufErrors")
		udp6 := regexp.MustCompile(`Udp6RcvbufErrors\s+(\d+)`).FindStringSubmatch(string(v6))
		for _, text := range []string{strings.Fields(udp[1][1])[at], udp6[1]} {
			k, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			n += k
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// iperf sends datagrams from client to gateway. It tries again: iperf3 does not, when its first datagram is lost.
func iperf(t *testing.T, n *Net, addr string, mbit, size int) iperfed {
	t.Helper()
	var err error
	for range 3 {
		var u iperfed
		if u, err = iperfOnce(t, n, addr, mbit, size); err == nil {
			return u
		}
	}
	t.Skip(err)
	return iperfed{}
}

func iperfOnce(t *testing.T, n *Net, addr string, mbit, size int) (u iperfed, err error) {
	t.Helper()
	server := exec.Command("iperf3", "-s", "-1", "-B", addr, "--forceflush")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Hosts["gateway"].Start(server); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	said := make([]byte, 200)
	for got := 0; !bytes.Contains(said, []byte("Server listening")); {
		k, err := out.Read(said[got:])
		if err != nil {
			t.Fatalf("iperf3 says %q: %v", said[:got], err)
		}
		got += k
	}
	before := overflows(t, n.Hosts["gateway"])
	text := output(n.Hosts["client"], "iperf3", "-c", addr, "-u", "-b", strconv.Itoa(mbit)+"M", "-l", strconv.Itoa(size),
		"-t", strconv.Itoa(*linkSeconds), "--json", "--connect-timeout", "10000")
	var report struct {
		Error string
		End   struct {
			Sum struct {
				Seconds       float64
				Packets       int
				Lost          int     `json:"lost_packets"`
				BitsPerSecond float64 `json:"bits_per_second"`
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil || report.Error != "" {
		return u, fmt.Errorf("iperf3 gave up: %v %s", err, report.Error)
	}
	s := report.End.Sum
	u = iperfed{seconds: s.Seconds, packets: s.Packets, late: overflows(t, n.Hosts["gateway"]) - before}
	u.lost = s.Lost - u.late
	u.bits = float64(s.Packets-u.lost) * float64(size) * 8 / max(s.Seconds, 0.001)
	return u, nil
}
