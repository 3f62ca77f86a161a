package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is where text for a person goes: a terminal, or a file or pipe that gets the same text without colours.
type screen struct {
	w        io.Writer
	terminal bool
	colour   bool
	fd       int
}

func newScreen(f *os.File, env func(string) string) *screen {
	s := &screen{w: f, fd: int(f.Fd())}
	s.terminal = term.IsTerminal(s.fd) && env("TERM") != "dumb"
	s.colour = s.terminal && env("NO_COLOR") == ""
	return s
}

func (s *screen) Write(b []byte) (int, error) { return s.w.Write(b) }

// columns is the terminal's width, 0 if there is none.
func (s *screen) columns() int {
	columns, _ := s.size()
	return columns
}

// rows is its height.
func (s *screen) rows() int {
	_, rows := s.size()
	return rows
}

func (s *screen) size() (columns, rows int) {
	if !s.terminal {
		return 0, 0
	}
	columns, rows, err := term.GetSize(s.fd)
	if err != nil {
		return 0, 0
	}
	return columns, rows
}

// The colours that are used, for one meaning each.
const (
	good  = "32"
	bad   = "31"
	alert = "33"
	faint = "2"
	bold  = "1"
)

// paint colours text where there are colours.
func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// indent is how far in the values of a status begin.
const indent = 14

// field prints a name and a value of a status, on as many lines as it takes.
func (s *screen) field(name, format string, args ...any) {
	text := wrap(fmt.Sprintf(format, args...), s.columns()-indent)
	fmt.Fprintf(s, "  %s %s\n", s.paint(faint, fmt.Sprintf("%-11s", name)), strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", indent)))
}

// wrap breaks text at spaces so that no line has more columns, as far as words allow; below 20 it is left as it is. Colours take
// no room.
func wrap(text string, columns int) string {
	if columns < 20 {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(colours.ReplaceAllString(word, ""))
		switch {
		case i == 0:
		case used+1+n > columns:
			b.WriteByte('\n')
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	return b.String()
}

var colours = regexp.MustCompile("\x1b\\[[0-9]*m")

// table prints rows in columns; the first row is the heading.
func (s *screen) table(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		line := strings.TrimRight(b.String(), " ")
		if n == 0 {
			line = s.paint(faint, line)
		}
		fmt.Fprintln(s, line)
	}
}

// size is a number of bytes as people say it, in powers of ten as network speeds are.
func size[N ~int | ~int64 | ~uint64 | ~float64](n N) string {
	v := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB", "TB"} {
		switch {
		case v < 999.5:
			return fmt.Sprintf("%.3g %s", v, unit)
		case unit == "TB":
			return fmt.Sprintf("%.0f %s", v, unit)
		}
		v /= 1000
	}
	return ""
}

// ago is a duration as people say it, in at most two units.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(d, 0).Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// plural is a count with its noun.
func plural[N ~int | ~int64 | ~uint64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
