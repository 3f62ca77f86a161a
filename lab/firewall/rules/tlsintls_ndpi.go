package rules

import (
	"fmt"
	"math"
)

// ndpiBursts is what nDPI does since 2024 (src/lib/protocols/tls.c, its heuristic for obfuscated TLS): sums of four bursts,
// client first, beginning at the first and at every later burst of the client, 24 bytes less for each packet if there is TLS
// outside; then the distance of Mahalanobis from three real browsers' handshakes. The first burst has three packets at most,
// and of Firefox's TLS 1.3 517 bytes at least.
//
// Its means and thresholds are used as they are. Of its covariances, which nearly have nothing beside the diagonal, we use
// the diagonal alone, as deviations: our distances differ a little from its own.
//
// Found, of the connections that tlsintls_xue.go tells of: trojan 42 of 43, shadowsocks 42 of 43, vmess 39 of 42, reality with
// Vision 43 of 43, obfs4 39 of 46, shadowtls 35 of 41, shadowsocks-2022 37 of 42, https-proxy 23 of 38, anytls 0 of 3, ssh 1 of
// 1, godwit 1 of 18. Wrongly: HTTPS of Chromium 2 of 25, of curl 45 of 187; HTTP in the clear 35 of 80. The model is wide.
func ndpiBursts(r *TLSInTLS, f *flight) (bool, string) {
	overhead := 0
	if f.cover {
		overhead = 24
	}
	best, of := math.Inf(1), ""
	bursts := f.bursts(overhead, false)
	// The last burst may still go on.
	for i := 0; i+4 < len(bursts); i++ {
		if !bursts[i].fromClient || bursts[i].packets > 3 {
			continue
		}
		for _, m := range ndpiModels {
			if bursts[i].bytes < m.least {
				continue
			}
			if d := m.distance(bursts[i : i+4]); d/m.limit < best {
				best, of = d/m.limit, m.name
			}
		}
	}
	if of == "" {
		return false, "too few bursts"
	}
	limit := or(r.Limit, 1)
	return best < limit, fmt.Sprintf("score %.2f of %g (below is found), nearest %s", best, limit, of)
}

// burstModel is a mean and a deviation of the bytes in each of some bursts.
type burstModel struct {
	name            string
	mean, deviation []float64
	limit           float64
	least           int // bytes in the first
}

var ndpiModels = []burstModel{
	{name: "TLS 1.2, Firefox", mean: []float64{212.9, 4514.7, 107.8, 307.6}, deviation: []float64{58.5, 1292, 36.1, 132}, limit: 3.5},
	{name: "TLS 1.3, Firefox", mean: []float64{640.7, 4649.3, 448.4, 1094.2}, deviation: []float64{180, 1201, 987, 3403}, limit: 3, least: 517},
	{name: "TLS 1.3, Chrome", mean: []float64{1850.4, 4903.1, 785.3, 1051.2}, deviation: []float64{386, 1331, 1287, 3144}, limit: 3},
}

// distance is that of Mahalanobis, of bursts that have nothing to do with each other.
func (m *burstModel) distance(b []aBurst) float64 {
	sum := 0.0
	for i, mean := range m.mean {
		d := (float64(b[i].bytes) - mean) / m.deviation[i]
		sum += d * d
	}
	return math.Sqrt(sum)
}
