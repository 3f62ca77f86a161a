package weather

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Markdown writes the report as a page.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Changing weather\n\nFirewalls that change their rules while traffic passes, and how long a download stands still for a blow. Measured\n"+
		"%s, Godwit %s, %s, at a load of %.1f: whatever waits for a processor is late here. `lab weather`,\n"+
		"`lab stalls` and `lab limits` write this page; the same numbers are in [weather.json](weather.json).\n",
		r.Date, r.Version, r.Machine, r.Load)
	if len(r.Runs) > 0 {
		r.runs(&b)
	}
	if len(r.Stalls) > 0 {
		r.stalls(&b)
	}
	if len(r.Limits) > 0 {
		r.limits(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) runs(b *strings.Builder) {
	fmt.Fprintf(b, `
## Rules that change at random moments

Each seed draws the moods of a firewall in front of a gateway with two addresses: 5 to 30 s each (the border is shut for
10 s at most), with 5 to 15 s of calm between them. One stream is open all the time and sends an echo each second, whose
order is verified; beside it files of 3 MiB are downloaded one after another at 3.2 Mbit/s, every byte compared. The path has
60 ms and 100 Mbit/s. The client and the gateway are the program as built, as its user would start it.

What must hold: no stream is lost. Two dials are %v apart; up to %v of that may be this machine's own doing.
In no minute there are more than %d: exponential back-off from %v, doubled each time that all ways have failed,
lets four rounds over seven ways through in a minute, and two more replace the links that there were. The median of what
an end holds resident in the last quarter of a run is at most a quarter and 8 MiB above that of the second.

| seed | minutes | echoes | longest wait | downloads | Mbit/s | longest stall | lost | refused | dials | most in a minute | closest | client MiB | gateway MiB | holds |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`, DialSpacing, spacingSlack, DialsPerMinute, DialSpacing)
	var faults []string
	for i := range r.Runs {
		run := &r.Runs[i]
		closest, _ := run.Closest()
		holds := "yes"
		if f := run.Faults(); len(f) > 0 {
			holds = "**no**"
			for _, s := range f {
				faults = append(faults, fmt.Sprintf("- seed %d%s: %s\n", run.Seed, byTUN(run.TUN), s))
			}
		}
		memory := func(of func(Memory) int64) string {
			early, late := run.settled(of)
			return fmt.Sprintf("%d → %d", early>>20, late>>20)
		}
		fmt.Fprintf(b, "| %d%s | %.0f | %d | %s | %d | %.1f | %s | %d | %d | %d | %d | %s | %s | %s | %s |\n", run.Seed, byTUN(run.TUN), run.Length.Minutes(), run.Echoes,
			seconds(run.EchoStall), run.Downloads, float64(run.Bytes)*8/1e6/run.Length.Seconds(), seconds(run.DownloadStall), len(run.Broken), run.Refused, len(run.Dials), run.MostDials(),
			seconds(closest), memory(Memory.client), memory(Memory.gateway), holds)
	}
	b.WriteString("\n")
	for _, f := range faults {
		b.WriteString(f)
	}
	b.WriteString(`
By mood, over all seeds: of the waits that ended in it or in the calm after it, the longest of each spell. A spell that met no
packet (no UDP, where none was in use) shows nothing.

| mood | spells | met nothing | echo, median | echo, worst | download, median | download, worst | dials, mean | dials, most |
|---|---|---|---|---|---|---|---|---|
`)
	byMood := make(map[string][]Spell)
	var moods []string
	for _, run := range r.Runs {
		for _, s := range run.Spells {
			if byMood[s.Mood] == nil {
				moods = append(moods, s.Mood)
			}
			byMood[s.Mood] = append(byMood[s.Mood], s)
		}
	}
	slices.Sort(moods)
	for _, m := range moods {
		var echo, download []time.Duration
		unmet, dials, most := 0, 0, 0
		for _, s := range byMood[m] {
			echo, download = append(echo, s.Echo), append(download, s.Download)
			dials, most = dials+s.Dials, max(most, s.Dials)
			if s.Met == 0 {
				unmet++
			}
		}
		n := len(byMood[m])
		fmt.Fprintf(b, "| %s | %d | %d | %s | %s | %s | %s | %.1f | %d |\n", m, n, unmet, seconds(median(echo)), seconds(slices.Max(echo)),
			seconds(median(download)), seconds(slices.Max(download)), float64(dials)/float64(n), most)
	}
}

func (r *Report) stalls(b *strings.Builder) {
	b.WriteString(`
## How long a blow takes

A steady download (3.2 Mbit/s, in pieces of 20 ms) over a path with a round trip of 100 ms, to a gateway with two addresses. The connection that carries it is
reset, or silently lost, alone, or with all that goes to its address and port, or to its address; and again, 8 to 12 s after
it was let go. A stall is the longest time without a byte from the blow on; a blow lasts 3 s at least, and until the download goes
on. One link is ` + "`--links 1`" + `: nothing stands by. Wanted with a standby: a median below 1 s, and 3 s at worst; without one,
three round trips more.

| blow | links | blows | met nothing | median | 90 % | worst | lost |
|---|---|---|---|---|---|---|---|
`)
	for _, s := range r.Stalls {
		links := "default"
		if s.Links > 0 {
			links = fmt.Sprint(s.Links)
		}
		var worst, nine time.Duration
		if n := len(s.Each); n > 0 {
			sorted := slices.Sorted(slices.Values(s.Each))
			worst, nine = sorted[n-1], sorted[min(n-1, n*9/10)]
		}
		broken := "none"
		if s.Broken != "" {
			broken = s.Broken
		}
		fmt.Fprintf(b, "| %s%s | %s | %d | %d | %s | %s | %s | %s |\n", s.Blow, byTUN(s.TUN), links, len(s.Each), s.Missed, seconds(median(s.Each)), seconds(nine),
			seconds(worst), broken)
	}
}

func (r *Report) limits(b *strings.Builder) {
	fmt.Fprintf(b, `
## Where no connection carries much

A download takes all it can get while every connection to the gateway, TCP or UDP, is policed from its first packet on, or
frozen after 25. Wanted: 70 %% of the policed rate of one connection, and one replacement a minute; under the freeze, where
each connection brings some ten kilobytes, no more dials than back-off allows. Dials are counted by the firewall; those
after the first %v replace links.

| connections are | minutes | kbit/s | of one connection's | dials | most in a minute | replacements, most in a minute | lost |
|---|---|---|---|---|---|---|---|
`, settling)
	for _, l := range r.Limits {
		rate := float64(l.Bytes) * 8 / l.Length.Seconds()
		share, broken := "–", "none"
		if l.Rate > 0 {
			share = fmt.Sprintf("%.0f %%", 100*rate/float64(l.Rate))
		}
		if l.Broken != "" {
			broken = l.Broken
		}
		run := Run{Dials: l.Dials}
		fmt.Fprintf(b, "| %s | %.0f | %.0f | %s | %d | %d | %d | %s |\n", l.Name(), l.Length.Minutes(), rate/1000, share, len(l.Dials), run.MostDials(),
			l.Replacements(), broken)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
