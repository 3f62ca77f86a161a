package demo

import (
	"fmt"
	"io"
	"strings"
)

// Screen is where the demo shows itself.
type Screen struct {
	W io.Writer
	// Terminal says that lines may be drawn over, and Colour that there are colours.
	Terminal, Colour bool
}

const (
	green  = "32"
	red    = "31"
	yellow = "33"
	faint  = "2"
)

func (s Screen) paint(colour, text string) string {
	if !s.Colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s Screen) printf(format string, args ...any) {
	if s.W != nil {
		fmt.Fprintf(s.W, format, args...)
	}
}

// check prints the outcome of one check.
func (s Screen) check(c Check) {
	mark := s.paint(green, "✓")
	if !c.OK {
		mark = s.paint(red, "✗")
	}
	s.clear()
	s.printf("%s %-12s %s\n", mark, c.Name, c.Detail)
}

// more prints a line that belongs to the one before.
func (s Screen) more(format string, args ...any) {
	s.clear()
	s.printf("  %-12s %s\n", "", s.paint(faint, fmt.Sprintf(format, args...)))
}

// cut prints what became of a cut.
func (s Screen) cut(what, detail string) {
	s.clear()
	s.printf("  %s %s\n", s.paint(yellow, fmt.Sprintf("%-12s", what)), detail)
}

const barWidth = 32

// bar draws how far the download is, over itself.
func (s Screen) bar(part float64, text string) {
	if !s.Terminal {
		return
	}
	full := int(part * barWidth)
	s.clear()
	s.printf("  %-12s %s%s %3.0f %%  %s", "download", strings.Repeat("█", full), strings.Repeat("░", barWidth-full),
		part*100, text)
}

// clear takes the bar away.
func (s Screen) clear() {
	if s.Terminal {
		s.printf("\r\x1b[K")
	}
}

const picture = `
  visitor ──▶ client ══ links ══▶ network ══════════▶ gateway ──▶ two sites
              proxy               where we cut                    http, https
`
