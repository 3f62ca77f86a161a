package survival

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// about says what each scenario asks.
var about = map[string]string{
	"reach":  "a banned site is opened from inside, within half a minute, and twice more in the twenty seconds after; the last time counts",
	"hold":   "a large file (200 MB unless asked otherwise) is downloaded while the connection that carries the most is struck in mid-flow, and again every 10 s",
	"probe":  "the firewall's prober examines the gateway after use, and an ordinary web server beside it",
	"office": "two sites and a laptop that changes its network keep their streams; there is no site-to-site yet, so servers behind them are not reached",
	"names":  "nothing but the way across is asked for the names of what is visited",
}

// Markdown writes the table.
func (r *Report) Markdown(out io.Writer) error {
	w := &printer{w: out}
	w.f("# Who survives which firewall\n\n")
	w.f("Measured by `make lab` on %s (%s; seed %d; real time, no scale). Everything ran on one machine, in namespaces that the lab\n"+
		"made; firewalls are the profiles below, each after what was measured and by whom. A claim holds for these profiles, not\n"+
		"for a country. [The same with plots](survival.html).\n\n", r.Date, r.Machine, r.Seed)
	w.f("✔ passes · ~ degraded (got through, but not as asked) · ✘ blocked · – not tried, see below · empty: not run\n\n")
	for _, s := range r.scenarios() {
		w.f("## %s%s\n\n%s.\n\n", strings.ToUpper(s[:1]), s[1:], sentence(about[s]))
		w.f("| |")
		for _, p := range r.Profiles {
			w.f(" %s |", p.Name)
		}
		w.f("\n|---|%s\n", strings.Repeat("---|", len(r.Profiles)))
		for _, peer := range r.Peers {
			row, any := fmt.Sprintf("| %s |", bold(peer.Name)), false
			for _, p := range r.Profiles {
				c := r.Find(p.Name, peer.Name, s)
				any = any || c != nil
				row += " " + cellText(c) + " |"
			}
			if any {
				w.f("%s\n", row)
			}
		}
		w.f("\n")
	}
	r.failures(w)
	r.benign(w)
	w.f("## The firewalls\n\n")
	for _, p := range r.Profiles {
		w.f("### %s\n\n%s\n\n", p.Name, strings.TrimSpace(p.Story))
		for _, b := range p.Boxes {
			w.f("- %s\n", b)
		}
		if p.Hold != "" {
			w.f("- in scenario hold: %s\n", p.Hold)
		}
		w.f("- the gateway's side has %d addresses, %d relays, %d mirrors\n", p.Addresses, p.Relays, p.Mirrors)
		w.f("- must stop: %s\n\nSources: %s.\n\n", or(strings.Join(p.MustStop, ", "), "nothing yet"), strings.Join(p.Sources, "; "))
	}
	w.f("## The ways across\n\n| | version | settings |\n|---|---|---|\n")
	for _, p := range r.Peers {
		w.f("| %s | %s | %s |\n", p.Name, p.Version, or(p.Settings, p.Why))
	}
	if picture := r.Picture(); picture != "" {
		w.f("\n## The country\n\n```\n%s\n```\n", strings.TrimRight(picture, "\n"))
	}
	return w.err
}

func (r *Report) failures(w *printer) {
	w.f("## Why\n\nEvery cell that is not ✔: the rules that fired on its connections, how often, and what the first one found.\n\n")
	w.f("| firewall | way across | scenario | | rules | found | said |\n|---|---|---|---|---|---|---|\n")
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Verdict == Passes {
			continue
		}
		sign, _ := c.sign()
		capture := ""
		if c.Capture != "" {
			capture = fmt.Sprintf(" ([packets](%s))", c.Capture)
		}
		w.f("| %s | %s | %s | %s | %s | %s%s | %s |\n", c.Profile, c.Peer, c.Scenario, sign, c.fired(), plain(c.First), capture, plain(c.Note))
	}
	w.f("\n")
}

func (r *Report) benign(w *printer) {
	if len(r.Benign) == 0 {
		return
	}
	w.f("## Ordinary traffic\n\nWhat ordinary programs did to allowed places at the same firewalls, and how much of it was hit. ")
	w.f("What a firewall denies to everyone on purpose is not among it.\n\n")
	w.f("| firewall | seeds | tried | hit | share | by | first | denied to all (stopped of tried) | not tried |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, b := range r.Benign {
		tried, hit := 0, 0
		for k, n := range b.Tried {
			tried, hit = tried+n, hit+b.Hit[k]
		}
		w.f("| %s | %d | %d | %d | %.2f %% | %s | %s | %s | %s |\n", b.Profile, b.Seeds, tried, hit, 100*b.Rate(),
			(&Cell{Rules: b.Rules}).fired(), plain(b.First), b.denied(), b.skipped())
	}
	w.f("\n")
}

// denied lists what is denied to all, and how much of it was stopped.
func (b Benign) denied() string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(b.Denied)) {
		words = append(words, fmt.Sprintf("%s %d of %d", k, b.Stopped[k], b.Denied[k]))
	}
	return strings.Join(words, ", ")
}

func (b Benign) skipped() string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(b.Skipped)) {
		words = append(words, k+": "+plain(b.Skipped[k]))
	}
	return strings.Join(words, "; ")
}

func cellText(c *Cell) string {
	sign, _ := c.sign()
	if c == nil || c.Verdict == None {
		return sign
	}
	var more []string
	if c.How == Replay {
		more = append(more, "replay")
	}
	if c.Runs > 1 && c.Passed < c.Runs {
		more = append(more, fmt.Sprintf("%d of %d", c.Passed, c.Runs))
	}
	if c.Scenario == "hold" && c.Verdict != Blocked {
		more = append(more, fmt.Sprintf("stall %s, %.0f Mbit/s", short(median(c.Stall)), median(c.Mbps)))
	}
	if c.Scenario == "office" && c.Verdict == Passes {
		more = append(more, "stall "+short(median(c.Stall)))
	}
	if c.Scenario == "reach" && c.Verdict == Passes && c.How != Replay {
		more = append(more, short(median(c.FirstByte)))
	}
	return strings.TrimSpace(sign + " " + strings.Join(more, ", "))
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func bold(name string) string {
	if strings.HasPrefix(name, "godwit") {
		return "**" + name + "**"
	}
	return name
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// plain makes a program's last words fit into a table.
func plain(s string) string {
	s = strings.Join(strings.Fields(strings.ReplaceAll(s, "|", "/")), " ")
	if len(s) > 160 {
		s = strings.ToValidUTF8(s[:160], "") + "…"
	}
	return s
}

// printer remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
