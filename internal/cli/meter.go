package cli

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/client"
)

// keptRates is for how many seconds it is kept how fast data flowed.
const keptRates = 60

// meter measures how fast data flows.
type meter struct {
	mu             sync.Mutex
	at             time.Time
	received, sent uint64
	down, up       []float64
}

// ratesDoc is what status tells of it, in bytes per second.
type ratesDoc struct {
	Down float64 `json:"down"` // now
	Up   float64 `json:"up"`
	// The last minute, a second each, the latest last.
	DownBefore []float64 `json:"down_before"`
	UpBefore   []float64 `json:"up_before"`
}

// run measures until ctx is done.
func (m *meter) run(ctx context.Context, c *client.Client) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		st := c.Status()
		m.measure(time.Now(), st.Received, st.Sent)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// measure takes how much was carried so far; less than before is another session.
func (m *meter) measure(now time.Time, received, sent uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if took := now.Sub(m.at).Seconds(); !m.at.IsZero() && took > 0 {
		rate := func(all []float64, before, now uint64) []float64 {
			if now < before {
				before = 0
			}
			if len(all) == keptRates {
				all = all[1:]
			}
			return append(all, float64(now-before)/took)
		}
		m.down, m.up = rate(m.down, m.received, received), rate(m.up, m.sent, sent)
	}
	m.at, m.received, m.sent = now, received, sent
}

func (m *meter) status() ratesDoc {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc := ratesDoc{DownBefore: append([]float64{}, m.down...), UpBefore: append([]float64{}, m.up...)}
	if n := len(m.down); n > 0 {
		doc.Down, doc.Up = m.down[n-1], m.up[n-1]
	}
	return doc
}

// spark draws values in one line of so many columns, the last of them at its right end; each is a share of the greatest.
func spark(values []float64, columns int) string {
	values = values[max(0, len(values)-columns):]
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", columns-len(values)))
	for _, v := range values {
		i := 0
		if v > 0 {
			i = min(1+int(v/top*float64(len(bars)-1)), len(bars)-1) // what is little is not nothing
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}
