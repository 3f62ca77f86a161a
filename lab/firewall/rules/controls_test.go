package rules

import (
	"slices"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// own reads a recording of this package's.
func own(t testing.TB, name string) []firewalltest.Frame {
	t.Helper()
	return firewalltest.Read(t, "testdata/"+name+".pcap")
}

// replayed reads a recording that the table has a row for.
func replayed(t testing.TB, name string) []firewalltest.Frame {
	t.Helper()
	return firewalltest.Read(t, "../../replay/data/"+name+".pcap")
}

// cut swallows the rest of the connection.
var cut = Then{Block: scope(firewall.Connection)}

// fired passes frames through a new box and returns the details of what it found.
func fired(t testing.TB, set Set, frames []firewalltest.Frame, change ...func(*firewall.Config)) (details []string) {
	t.Helper()
	for _, e := range firewalltest.Pass(newBox(t, firewall.InPath, set, change...), frames).Events {
		details = append(details, e.Detail)
	}
	return details
}

// spares fails if a rule hits what anybody does, or proxies that look like that, but for those named. Rules keep state: set
// makes a new one.
func spares(t *testing.T, set func() Set, but ...string) {
	t.Helper()
	for _, name := range append(slices.Clone(ordinary), others...) {
		if slices.Contains(but, name) {
			continue
		}
		if got := fired(t, set(), recorded(t, name)); len(got) > 0 {
			t.Errorf("%s is hit: %q", name, got)
		}
	}
}

// hits fails unless a rule finds something with each of these.
func hits(t *testing.T, set func() Set, recordings map[string][]firewalltest.Frame) {
	t.Helper()
	for name, frames := range recordings {
		if got := fired(t, set(), frames); len(got) == 0 {
			t.Errorf("%s is not hit", name)
		} else {
			t.Logf("%s: %q", name, got)
		}
	}
}

// others are proxies over TLS and QUIC that only look like what they are: no rule by a protocol's bytes may hit them.
var others = []string{"godwit", "trojan", "reality", "shadowtls", "hysteria2", "quic-banned", "quic-initial-allowed"}

// said is what the first packets of a recording of UDP said, as Conn wants it.
func said(t testing.TB, frames []firewalltest.Frame, n int) (texts []string) {
	t.Helper()
	const headers = 14 + 20 + 8
	for _, f := range frames[:n] {
		from := "<"
		if f.Outbound {
			from = ">"
		}
		texts = append(texts, from+string(f.Data[headers:]))
	}
	return texts
}
