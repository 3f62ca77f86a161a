package cli

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/godwit-vpn/godwit/client"
)

func TestMeter(t *testing.T) {
	t.Parallel()
	var m meter
	now := time.Now()
	for _, n := range []uint64{1000, 3000, 3000, 500} { // the last is another session's
		m.measure(now, n, 2*n)
		now = now.Add(2 * time.Second)
	}
	if st := m.status(); st.Down != 250 || st.Up != 500 || len(st.DownBefore) != 3 || st.DownBefore[0] != 1000 || st.UpBefore[1] != 0 {
		t.Errorf("it says %+v", st)
	}
	for range 2 * keptRates {
		m.measure(now, 500, 1000)
		now = now.Add(time.Second)
	}
	if st := m.status(); st.Down != 0 || len(st.DownBefore) != keptRates || len(st.UpBefore) != keptRates {
		t.Errorf("after a while: %+v", st)
	}
}

func TestSpark(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   string
	}{
		{nil, "    "},
		{[]float64{0, 0}, "  ▁▁"},
		{[]float64{7, 0, 1, 50, 100}, "▁▂▅█"},
		{[]float64{math.SmallestNonzeroFloat64}, "   █"},
	} {
		if got := spark(tt.values, 4); got != tt.want {
			t.Errorf("%v is drawn %q, want %q", tt.values, got, tt.want)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"short", "short"},
		{"twenty columns wide, and more", "twenty columns wide,\nand more"},
		{"\x1b[33mtwenty columns\x1b[0m wide, and", "\x1b[33mtwenty columns\x1b[0m wide,\nand"},
		{"a-word-that-is-longer-than-a-line is", "a-word-that-is-longer-than-a-line\nis"},
		{"  spaces are kept", "  spaces are kept"},
	} {
		if got := wrap(tt.text, 20); got != tt.want {
			t.Errorf("%q is %q", tt.text, got)
		}
		if got := wrap(tt.text, 0); got != tt.text {
			t.Errorf("without a terminal %q is %q", tt.text, got)
		}
	}
}

// All that matters is there at a glance, in 80 columns; colours and drawings are for terminals.
func TestStatusAtAGlance(t *testing.T) {
	t.Parallel()
	now := time.Now()
	doc := statusDoc{Profile: "default", PID: 12345, Since: now.Add(-49 * time.Hour), Proxy: "127.0.0.1:1080",
		Machine: &machineDoc{TUN: "godwit0", Blocked: 123456, Portal: &portalDoc{Left: 299.5, Open: true}},
		Rates:   ratesDoc{Down: 12.3e6, Up: 340e3, DownBefore: make([]float64, 60), UpBefore: make([]float64, 60)}}
	doc.State, doc.SomebodyElse, doc.Device = client.Stalled, true, "0123456789abcdef"
	doc.TUN = &client.TUNStats{Connections: 1234, Questions: 123456}
	doc.Sent, doc.Received, doc.Streams = 123456789, 1234567890, 17
	doc.Stalls = client.Stalls{Count: 3, Lately: 2, Longest: 700, Last: now.Add(-12 * time.Minute)}
	doc.Links = []client.Link{{ID: 12, Transport: "https", State: "suspected", RTT: 1234, Received: 123e6, Sent: 123e6, Congestion: "bbr",
		Since: now.Add(-49 * time.Hour)}}
	doc.CertUntil = now
	for _, terminal := range []bool{false, true} {
		var b bytes.Buffer
		printStatus(&screen{w: &b, terminal: terminal, colour: terminal}, doc)
		text := b.String()
		for _, want := range []string{"12.3 MB/s", "340 kB/s", "1.23 GB", "2 within the hour, the longest 700 ms", "1234 ms", "https",
			"123456 packets", "godwit0", "4 min 59 s", "'godwit portal'", "nothing goes beside"} {
			if !strings.Contains(text, want) {
				t.Errorf("on a terminal %v: it does not say %q:\n%s", terminal, want, text)
			}
		}
		if strings.Contains(text, "▁") != terminal || strings.Contains(text, "\x1b") != terminal {
			t.Errorf("on a terminal %v: %q", terminal, text)
		}
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(colours.ReplaceAllString(strings.TrimSuffix(line, "\n"), "")); n > 80 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
	doc.Stalls.Now = 1500
	var b bytes.Buffer
	if printStatus(&screen{w: &b}, doc); !strings.Contains(b.String(), "nothing has come through for 1 s") {
		t.Errorf("while it stalls: %s", &b)
	}
}
