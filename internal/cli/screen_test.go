package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1 kB", 1500: "1.5 kB", 99_900: "99.9 kB", 999_400: "999 kB", 999_999: "1 MB",
		1 << 30: "1.07 GB", 25_000_000_000_000: "25 TB", 1 << 63: "9223372 TB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 12 * time.Millisecond: "12 ms", 59 * time.Second: "59 s", 61 * time.Second: "1 min 1 s",
		3*time.Hour + 5*time.Minute: "3 h 5 min", 49 * time.Hour: "2 d 1 h",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	(&screen{w: &b}).table([][]string{{"NAME", "STATE"}, {"мама", "good"}, {"a long name", ""}})
	want := "NAME         STATE\nмама         good\na long name\n"
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &b, want)
	}
}

// Colours are for terminals, and for people who want them.
func TestColours(t *testing.T) {
	t.Parallel()
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s := newScreen(f, func(string) string { return "" }); s.terminal || s.colour || s.columns() != 0 {
		t.Error("a file passes for a terminal")
	}
	if got := (&screen{colour: true}).paint(good, "x"); got != "\x1b[32mx\x1b[0m" {
		t.Errorf("painted %q", got)
	}
	if got := (&screen{}).paint(good, "x"); got != "x" {
		t.Errorf("painted %q", got)
	}
}

func TestTerminalLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	h := newTextHandler(&screen{w: &b, terminal: true}, slog.LevelInfo, func(string) string { return "" })
	log := slog.New(h).With("link", 1).WithGroup("g").With("k", "v")
	log.Debug("unseen")
	log.Warn("lost", "cause", "it was reset", slog.Group("in", "n", 2), "err", errors.New("a\nb"), "odd", "\x1b[31m")
	line := b.String()
	_, rest, _ := strings.Cut(line, " ")
	want := `warning: lost link=1 g.k=v g.cause="it was reset" g.in.n=2 g.err="a\nb" g.odd="\x1b[31m"` + "\n"
	if rest != want {
		t.Errorf("got  %q\nwant %q", rest, want)
	}
}

func TestLogFormats(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		format, level string
		env           map[string]string
		want          string
		debug         bool
	}{
		{"text", "", nil, "level=INFO msg=hello", false},
		{"json", "debug", nil, `"msg":"hello"`, true},
		{"text", "", map[string]string{"GODWIT_LOG": "debug"}, "time=", true},
		{"text", "error", map[string]string{"GODWIT_LOG": "debug"}, "", false},
		{"text", "", map[string]string{"JOURNAL_STREAM": "8:1"}, "level=INFO msg=hello", false},
	} {
		var b bytes.Buffer
		a := &app{logFormat: tt.format, logLevel: tt.level, env: func(n string) string { return tt.env[n] }}
		log, err := a.logger(slog.LevelInfo, &screen{w: &b})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello")
		if !strings.Contains(b.String(), tt.want) || tt.want == "" && b.Len() > 0 {
			t.Errorf("%+v: %q", tt, &b)
		}
		if tt.env["JOURNAL_STREAM"] != "" && strings.Contains(b.String(), "time=") {
			t.Errorf("the journal gets a second time: %q", &b)
		}
		if log.Enabled(context.Background(), slog.LevelDebug) != tt.debug {
			t.Errorf("%+v: debug is %v", tt, !tt.debug)
		}
	}
}

// What is watched on a terminal takes the place of what was there before, however long its lines were.
func TestRedraw(t *testing.T) {
	t.Parallel()
	a := &app{stdout: &screen{terminal: true}}
	b := bytes.NewBufferString("one\ntwo\n")
	if n := a.redraw(b, 0); n != 2 || b.String() != "one\x1b[K\ntwo\x1b[K\n\x1b[J" {
		t.Errorf("first: %d lines, %q", n, b)
	}
	b = bytes.NewBufferString("three\n")
	if n := a.redraw(b, 2); n != 1 || b.String() != "\x1b[2Athree\x1b[K\n\x1b[J" {
		t.Errorf("second: %d lines, %q", n, b)
	}
	a.stdout.terminal = false
	b = bytes.NewBufferString("one\n")
	if a.redraw(b, 2); b.String() != "one\n\n" {
		t.Errorf("to a file: %q", b)
	}
}
