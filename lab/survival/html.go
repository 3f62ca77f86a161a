package survival

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"cell": func(r *Report, profile, peer, scenario string) *Cell { return r.Find(profile, peer, scenario) },
	"sign": func(c *Cell) string { s, _ := c.sign(); return s },
	"word": func(c *Cell) string { _, s := c.sign(); return s },
	"text": cellText, "fired": (*Cell).fired, "about": func(s string) string { return sentence(about[s]) },
	"title": sentence, "join": strings.Join, "bold": func(s string) bool { return strings.HasPrefix(s, "godwit") },
	"denied": Benign.denied, "skipped": Benign.skipped, "plot": plot, "tip": tip, "percent": func(v float64) string { return fmt.Sprintf("%.2f %%", 100*v) },
	"stallbar": func(c *Cell) float64 { return 100 * min(1, median(c.Stall).Seconds()/10) },
	"stall":    func(c *Cell) string { return short(median(c.Stall)) },
	"mbps":     func(c *Cell) string { return fmt.Sprintf("%.0f", median(c.Mbps)) },
}).Parse(pageText))

// HTML writes the page: one file, nothing fetched.
func (r *Report) HTML(w io.Writer) error {
	return page.Execute(w, struct {
		*Report
		Scenarios []string
	}{r, r.scenarios()})
}

func tip(c *Cell) string {
	if c == nil {
		return "not run"
	}
	_, word := c.sign()
	parts := []string{c.Peer + " at " + c.Profile + ": " + word}
	if f := c.fired(); f != "" {
		parts = append(parts, f)
	}
	for _, s := range []string{c.First, c.Note} {
		if s != "" {
			parts = append(parts, plain(s))
		}
	}
	return strings.Join(parts, "\n")
}

// plot draws a download's rate over its time, 200 ms a step.
func plot(c *Cell) template.HTML {
	if len(c.Series) == 0 {
		return ""
	}
	const width, height = 320, 48
	// Half a second at a time: single steps are mostly noise.
	var bars []float64
	for i := 0; i < len(c.Series); i += 3 {
		var sum int64
		for _, v := range c.Series[i:min(i+3, len(c.Series))] {
			sum += v
		}
		bars = append(bars, float64(sum)*8/0.6/1e6)
	}
	most := 1.0
	for _, v := range bars {
		most = max(most, v)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Mbit/s over time"><polyline points="`, width, height+12, width, height+12)
	fmt.Fprintf(&b, "0,%d ", height)
	for i, v := range bars {
		fmt.Fprintf(&b, "%.1f,%.1f ", float64(i)*width/float64(max(1, len(bars)-1)), height-v/most*height)
	}
	seconds := time.Duration(len(c.Series)) * 200 * time.Millisecond
	fmt.Fprintf(&b, `%d,%d"/><text x="0" y="%d">0 s</text><text x="%d" y="%d" text-anchor="end">%.0f s · peak %.0f Mbit/s</text></svg>`,
		width, height, height+11, width, height+11, seconds.Seconds(), most)
	return template.HTML(b.String())
}
