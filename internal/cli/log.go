package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// newTextHandler logs in words for a person at a terminal, and in slog's own text form for programs. Under systemd the
// journal adds the time itself.
func newTextHandler(to *screen, level slog.Level, env func(string) string) slog.Handler {
	if to.terminal {
		return &terminalHandler{to: to, level: level, mu: new(sync.Mutex)}
	}
	opts := &slog.HandlerOptions{Level: level}
	if env("JOURNAL_STREAM") != "" {
		opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.NewTextHandler(to, opts)
}

// terminalHandler prints one line for each record: the time, the message, and what belongs to it.
type terminalHandler struct {
	to     *screen
	level  slog.Level
	prefix string // of attributes' names: the groups
	attrs  string // already printed
	mu     *sync.Mutex
}

func (h *terminalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *terminalHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.to.paint(faint, r.Time.Format("15:04:05")))
	b.WriteByte(' ')
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString(h.to.paint(bad, "error: "))
	case r.Level >= slog.LevelWarn:
		b.WriteString(h.to.paint(alert, "warning: "))
	}
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		h.append(&b, h.prefix, a)
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.to.Write([]byte(b.String()))
	return err
}

func (h *terminalHandler) append(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			h.append(b, prefix, inner)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	text := v.String()
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) }) {
		text = strconv.Quote(text)
	}
	fmt.Fprintf(b, " %s%s", h.to.paint(faint, prefix+a.Key+"="), text)
}

func (h *terminalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		h.append(&b, h.prefix, a)
	}
	c := *h
	c.attrs += b.String()
	return &c
}

func (h *terminalHandler) WithGroup(name string) slog.Handler {
	c := *h
	if name != "" {
		c.prefix += name + "."
	}
	return &c
}
