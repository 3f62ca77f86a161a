// Package pageload asks what the sizes, directions and times of packets give away while pages are loaded: made-up pages
// of sites with real TLS, in simulated time, on connections of their own, through a plain tunnel, and through links of
// Godwit with and without shaping. Its tests show each detector what it must find, choose its threshold on some sites and
// days, and count on others; docs/shaping.md has what they said.
//
//	sites ─ pages ─ connections ─┬─ direct ────────────┬─ a watcher next to the client ─ detectors
//	                             ├─ TLS in TLS ────────┤
//	                             └─ session over link ─┘
package pageload
