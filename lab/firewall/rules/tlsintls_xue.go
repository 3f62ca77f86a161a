package rules

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
)

// xue is the classifier of Xue et al., USENIX Security 2024, as far as it is published. A connection of 25 packets or more is
// found if both tests say so:
//
//   - Sizes become letters: to 160, 600, 1210 bytes and above, and the direction. The counts of its 100 most telling 3-grams are
//     compared by chi-squared with those of TLS handshakes and with those of other traffic; the second divided by the first is
//     delta or more.
//   - The distance of Mahalanobis of some three bursts in a row (five for TLS 1.2) from those of a TLS handshake is gamma or
//     less; bursts also end with a wait of three round trips.
//
// Neither their tables nor delta and gamma are in what we read. Ours come from curl (TLS 1.2 and 1.3) and Chromium at a site
// with a chain of three certificates, over a path of 50 ms round trip: as handshakes their direct connections from the first
// byte on, as other traffic the same after the handshake and HTTP in the clear. The means of bursts are near nDPI's. Delta 0.8
// and gamma 2 were chosen with the proxied connections below in view, and with half of an earlier lot of direct ones.
//
// Found, of connections with 25 packets, through peers of lab/peer with a page in Chromium and 40 fetches by curl, half of
// them TLS 1.2: trojan 34 of 38, shadowsocks 31 of 35, vmess 23 of 33, https-proxy 23 of 36, shadowtls 19 of 36,
// shadowsocks-2022 14 of 32, reality with Vision 5 of 38, obfs4 3 of 44, anytls 0 of 3, ssh 0 of 1, godwit 0 of 18 (those with
// one inner handshake at first have distances of 2.2 to 3: near). Wrongly, of direct connections that were not used to choose:
// HTTPS of Chromium 0 of 25 and of curl with uploads, cookies and many requests 3 of 168; HTTP in the clear 8 of 79. The paper
// has 0.05 % of what people really do; these were made to be various.
func xue(r *TLSInTLS, f *flight) (bool, string) {
	overhead := 0
	if f.cover {
		overhead = xueOverhead
	}
	ratio := xueRatio(f.letters(overhead))
	distance := math.Inf(1)
	bursts := f.bursts(overhead, true)
	for i := range bursts {
		for _, m := range xueModels {
			if m.fits(bursts[i:]) {
				distance = min(distance, m.distance(bursts[i:]))
			}
		}
	}
	delta, gamma := or(r.Delta, 0.8), or(r.Gamma, 2)
	return ratio >= delta && distance <= gamma, fmt.Sprintf("ratio %.2f of %.2f, distance %.2f of %.2f", ratio, delta, distance, gamma)
}

// xueOverhead is about what TLS and a proxy's framing add to a packet; the paper has 20 to 60.
const xueOverhead = 40

var xueModels = []burstModel{
	{name: "TLS 1.3, Chrome", mean: []float64{1850, 4900, 700}, deviation: []float64{350, 1300, 300}},
	{name: "TLS 1.3, others", mean: []float64{560, 4600, 300}, deviation: []float64{180, 1200, 250}},
	{name: "TLS 1.2", mean: []float64{250, 4500, 108, 200, 350}, deviation: []float64{120, 1300, 36, 132, 300}},
}

// fits says whether the bursts are as many and go to and fro, the client first.
func (m *burstModel) fits(b []aBurst) bool {
	if len(b) < len(m.mean) {
		return false
	}
	for i := range m.mean {
		if b[i].fromClient != (i%2 == 0) {
			return false
		}
	}
	return true
}

// letters writes the packets as sizes and directions, the client's small.
func (w *flight) letters(overhead int) string {
	letters := make([]byte, 0, flightPackets)
	for _, p := range w.packets[:min(len(w.packets), flightPackets)] {
		letter := byte('A')
		for _, most := range [...]int{160, 600, 1210} {
			if p.size-overhead > most {
				letter++
			}
		}
		if p.fromClient {
			letter += 'a' - 'A'
		}
		letters = append(letters, letter)
	}
	return string(letters)
}

// xueRatio is how much worse a flow's 3-grams fit other traffic than TLS handshakes.
func xueRatio(letters string) float64 {
	seen, n := make(map[string]float64), float64(len(letters)-2)
	for i := 0; i+3 <= len(letters); i++ {
		seen[letters[i:i+3]]++
	}
	var handshakes, others float64
	for _, g := range xueGrams() {
		o, e := seen[g.gram], n*g.handshakes
		handshakes += (o - e) * (o - e) / e
		e = n * g.others
		others += (o - e) * (o - e) / e
	}
	return others / handshakes
}

type xueGram struct {
	gram               string
	handshakes, others float64
}

// xueGrams are the 100 3-grams whose shares differ most, and those shares in thousandths, in handshakes and in other traffic.
// What was not seen counts as 2 thousandths, and so does everything that much more.
var xueGrams = sync.OnceValue(func() (all []xueGram) {
	for _, entry := range strings.Fields(`
AAA:1:4 AAa:8:2 ADD:9:11 AaA:2:4 AaC:2:0 AaD:2:4 Aaa:6:0 AbC:5:1 AdC:2:1 Adc:4:2 BDD:20:17 BaB:7:5 BaD:1:7
BbB:16:11 BbD:6:7 Bdb:2:3 Bdd:8:10 CBD:15:13 CCd:1:2 CDA:0:1 CDB:2:3 CDC:10:9 CDD:0:5 CaA:17:0 CaC:3:5 CaD:4:13
Caa:9:0 Cab:7:0 Cac:2:0 Cad:12:0 CbD:9:11 Cba:0:1 CdD:2:4 Cdc:4:5 Cdd:7:10 DAa:1:4 DBa:2:7 DBb:8:8 DBd:5:9
DCB:15:14 DCC:0:2 DCD:1:10 DCa:51:16 DCb:3:6 DCd:4:8 DDB:6:15 DDC:61:35 DDD:182:267 DDa:2:4 DDb:1:3 DaD:3:6
Dba:0:2 aAA:17:10 aAD:1:2 aAa:4:1 aAb:4:0 aAd:5:0 aBa:9:8 aDA:1:1 aDB:1:4 aDC:3:7 aDD:5:23 aaA:12:9 aaB:1:0
aaC:2:0 aaD:0:1 aaa:12:13 abA:0:4 abB:3:0 abC:3:0 aba:0:1 acC:2:0 adC:1:0 adb:1:0 adc:2:0 add:6:0 bAA:0:1
bAa:0:2 bBb:20:15 bCD:3:3 bCd:6:5 bDB:9:11 bDD:50:11 baD:0:1 baa:0:3 cCD:3:3 cDD:4:5 cDd:1:2 dCd:3:5 dDC:1:1
dDD:2:5 daD:1:2 dbD:2:7 dcC:8:7 dcD:9:11 ddC:1:2 ddD:1:4 dda:3:4 ddb:11:12 ddd:46:43`) {
		part := strings.Split(entry, ":")
		handshakes, _ := strconv.Atoi(part[1])
		others, _ := strconv.Atoi(part[2])
		all = append(all, xueGram{part[0], float64(handshakes+2) / 1000, float64(others+2) / 1000})
	}
	return all
})
