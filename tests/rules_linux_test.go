package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"math"
	"math/bits"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	utls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

// These are rules that have been published, written from what was published. None of them is ours, and none is in the
// program.

// exempt says why the Great Firewall let a connection pass whose first packet this was, in the months when it blocked what
// looks fully encrypted; empty means that it might be blocked (Wu et al., USENIX Security 2023, Algorithm 1).
func exempt(first []byte) string {
	ones, printable, run, longest := 0, 0, 0, 0
	for _, b := range first {
		ones += bits.OnesCount8(b)
		if b < 0x20 || b > 0x7e {
			run = 0
			continue
		}
		printable++
		run++
		longest = max(longest, run)
	}
	n := float64(len(first))
	begins := func(s string) bool { return bytes.HasPrefix(first, []byte(s)) }
	switch {
	case n == 0:
		return "no data"
	case float64(ones)/n <= 3.4 || float64(ones)/n >= 4.6:
		return "Ex1, few bits are set, or many"
	case len(first) >= 6 && bytes.IndexFunc(first[:6], func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0:
		return "Ex2, six printable bytes first"
	case float64(printable)/n > 0.5:
		return "Ex3, half is printable"
	case longest > 20:
		return "Ex4, a long printable run"
	case len(first) >= 3 && (first[0] == 0x16 || first[0] == 0x17) && first[1] == 3 && first[2] <= 9:
		return "Ex5, TLS"
	case begins("GET ") || begins("PUT ") || begins("POST ") || begins("HEAD "):
		return "Ex5, HTTP"
	}
	return ""
}

// likeTLS is Ex5's first half, which the other exemptions hide when they are met first.
func likeTLS(first []byte) bool {
	return len(first) >= 3 && (first[0] == 0x16 || first[0] == 0x17) && first[1] == 3 && first[2] <= 9
}

// first is the first segment's data.
func (c *watched) first() []byte {
	if len(c.segments) == 0 {
		return nil
	}
	return c.segments[0].data
}

var changeCipherSpec = []byte{20, 3, 3, 0, 1, 1}

// likeTrojan is the rule of XTLS's Trojan-killer, which OpenGFW took over at first: what the client sends from its
// change_cipher_spec on, up to one more message of it, has 650 to 1000 bytes, and what it is answered 170 to 180, or 3000
// to 7500.
func likeTrojan(c *watched) bool {
	up, down, counting := 0, 0, false
	for _, s := range c.segments {
		counting = counting || s.up && bytes.HasPrefix(s.data, changeCipherSpec)
		switch {
		case !counting:
		case !s.up:
			down += s.size
		default:
			if up >= 650 && up <= 1000 && (down >= 170 && down <= 180 || down >= 3000 && down <= 7500) {
				return true
			}
			up += s.size
		}
		if up > 1000 || down > 7500 {
			return false
		}
	}
	return false
}

// A burstModel is a multivariate normal distribution of the bytes in four bursts of a TLS handshake.
type burstModel struct {
	name    string
	mean    [4]float64
	inverse [10]float64 // of the covariance: the upper triangle, row by row
	least   float64     // of the first burst
	within  float64     // a distance that is one
}

// burstModels are nDPI's (its tls.c of 2024), after Xue et al., USENIX Security 2024, to four digits.
var burstModels = []burstModel{
	{"TLS 1.2, Firefox", [4]float64{212.9, 4515, 107.8, 307.6}, [10]float64{2.924e-4, 4.437e-7, -5.700e-5, -2.181e-6,
		5.990e-7, -3.598e-7, 5.716e-7, 7.689e-4, 2.223e-5, 5.728e-5}, 0, 3.5},
	{"TLS 1.3, Firefox", [4]float64{640.7, 4649, 448.4, 1094}, [10]float64{3.080e-5, 1.162e-7, 1.054e-7, 3.886e-8,
		6.932e-7, 2.774e-8, -3.637e-9, 1.026e-6, -1.088e-8, 8.633e-8}, 517, 3},
	{"Chrome", [4]float64{1850, 4903, 785.3, 1051}, [10]float64{6.724e-6, -2.321e-8, 6.671e-8, 1.253e-8,
		5.647e-7, 4.590e-8, 6.413e-9, 6.041e-7, -9.151e-10, 1.012e-7}, 0, 3},
}

// distance is Mahalanobis's.
func (m *burstModel) distance(bursts [4]float64) float64 {
	sum, k := 0.0, 0
	for i := range 4 {
		for j := i; j < 4; j++ {
			term := (bursts[i] - m.mean[i]) * (bursts[j] - m.mean[j]) * m.inverse[k]
			if i != j {
				term *= 2
			}
			sum += term
			k++
		}
	}
	return math.Sqrt(max(sum, 0))
}

const (
	burstPackets  = 25 // from the first of the client's after the handshake
	burstOverhead = 24 // of each packet, what the TLS around takes
)

// hiddenHandshake looks for a TLS handshake inside of TLS as nDPI does: four bursts, the first from the client, that are
// as long as those of one. Unlike nDPI's it always begins right after the handshake outside, as the paper does. It
// returns the model that fits best, by how much of its limit the distance is: below one it is found.
func hiddenHandshake(c *watched) (model string, part float64) {
	part = math.Inf(1)
	type burst struct {
		up            bool
		bytes, number int
	}
	var bursts []burst
	past, packets := false, 0
	for _, s := range c.segments {
		if !past {
			past = s.up && bytes.HasPrefix(s.data, changeCipherSpec)
			continue
		}
		if len(bursts) == 0 && !s.up {
			continue
		}
		if packets++; packets > burstPackets {
			break
		}
		if n := len(bursts); n == 0 || bursts[n-1].up != s.up {
			bursts = append(bursts, burst{up: s.up})
		}
		last := &bursts[len(bursts)-1]
		last.bytes += max(0, s.size-burstOverhead)
		last.number++
	}
	for i := 0; i+4 < len(bursts); i++ { // the fifth says that the fourth has ended
		if !bursts[i].up || bursts[i].number > 3 {
			continue
		}
		var four [4]float64
		for j := range four {
			four[j] = float64(bursts[i+j].bytes)
		}
		for _, m := range burstModels {
			if four[0] < m.least {
				continue
			}
			if p := m.distance(four) / m.within; p < part {
				model, part = m.name, p
			}
		}
	}
	return model, part
}

// applyRules applies each rule to samples that it must find, and then to what was captured.
func (c *capture) applyRules(t *testing.T) {
	t.Run("work", func(t *testing.T) { rulesWork(t, c.visitor(t, "Chromium", newVisitors).Hellos[0].JA4()) })
	var table strings.Builder
	fmt.Fprintf(&table, "%-34s %5s %9s %9s %9s %9s  %s\n", "", "conns", "encrypted", "TLS first", "Trojan", "TLS in it",
		"JA4")
	ja4s, found := map[string]map[string]bool{}, map[string][2]int{}
	for _, kind := range kinds {
		conns := c.conns[kind]
		encrypted, tlsFirst, trojan, hidden := 0, 0, 0, 0
		ja4s[kind] = map[string]bool{}
		for _, conn := range conns {
			if exempt(conn.first()) == "" {
				encrypted++
			}
			if likeTLS(conn.first()) {
				tlsFirst++
			}
			if likeTrojan(conn) {
				trojan++
			}
			if _, part := hiddenHandshake(conn); part < 1 {
				hidden++
			}
			if hello, err := clienthello.ParseHello(conn.hello); err == nil {
				ja4s[kind][hello.JA4()] = true
			}
		}
		var names []string
		for name := range ja4s[kind] {
			names = append(names, name)
		}
		fmt.Fprintf(&table, "%-34s %5d %9d %9d %9d %9d  %s\n", kind, len(conns), encrypted, tlsFirst, trojan, hidden,
			strings.Join(names, " "))
		found[kind] = [2]int{trojan, hidden}
		if encrypted > 0 || tlsFirst < len(conns) {
			t.Errorf("%s: %d of %d could be taken for fully encrypted; %d begin with TLS", kind, encrypted, len(conns), tlsFirst)
		}
		if most := map[bool]int{true: 2, false: 1}[kind == curlOver || kind == browserOver]; len(names) < 1 || len(names) > most {
			t.Errorf("%s: %d JA4s: %q", kind, len(names), names) // a page goes over whichever link
		}
	}
	t.Log(table.String())
	if n := len(c.conns[curlNaive]); found[curlNaive][0] <= n/2 || found[curlNaive][1] <= n/2 {
		t.Error("the rules do not find a plain tunnel, so that they see nothing")
	}
	for _, kind := range []string{links, backLinks} {
		if found[kind][0] > len(c.conns[kind])/10 {
			t.Errorf("the rule for Trojan finds %d of %d: %s", found[kind][0], len(c.conns[kind]), kind)
		}
	}
	for kind, visits := range map[string][]string{links: {returning}, early: {returning}, backLinks: {revisits},
		curlOver: {returning, revisits}, browserOver: {returning, revisits}} {
		for name := range ja4s[kind] {
			if !slices.ContainsFunc(visits, func(visit string) bool { return ja4s[visit][name] }) {
				t.Errorf("%s has JA4 %s, Chromium has not", kind, name)
			}
		}
	}
}

// rulesWork shows that the rules find what they are for.
func rulesWork(t *testing.T, today string) {
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b)
		return b
	}
	blocked := 0
	for range 100 {
		if exempt(random(400)) == "" {
			blocked++
		}
	}
	if blocked < 95 {
		t.Errorf("of 100 random first packets the rule for fully encrypted traffic finds %d", blocked)
	}
	if wg := append([]byte{1, 0, 0, 0}, random(144)...); exempt(wg) != "" {
		t.Errorf("a first packet like WireGuard's is exempt by %s", exempt(wg))
	}
	for what, why := range map[string]string{
		string(bytes.Repeat([]byte{0x80}, 100)):                "Ex1",
		"SSH-2.0-" + string(random(300)):                       "Ex2",
		"\x00" + strings.Repeat("ab", 40) + string(random(60)): "Ex3",
		string(random(200)) + strings.Repeat("m", 40):          "Ex4",
		"\x16\x03\x01" + string(random(400)):                   "Ex5",
	} {
		// Random bytes meet an earlier exemption now and then.
		if got := exempt([]byte(what)); got == "" {
			t.Errorf("what %s exempts is not exempt", why)
		}
	}

	if !likeTrojan(flowOf(64, 600, -4000, 100)) || likeTrojan(flowOf(64, 600, -1000, 100)) {
		t.Error("the rule for Trojan does not find its own numbers, or finds others")
	}
	handshake := flowOf(64, 1850+24, -1448, -1448, -1448, -655, 785+24, -1051-24, 300)
	if model, part := hiddenHandshake(handshake); part >= 1 || model != "Chrome" {
		t.Errorf("Chrome's handshake inside of TLS is %.2f of the limit from %q", part, model)
	}
	if model, part := hiddenHandshake(flowOf(64, 92, -67, 200, -60000, 31, -300, 100)); part < 1 {
		t.Errorf("a download is %.2f of the limit from %q", part, model)
	}

	ja4 := func(dial func(net.Conn)) string {
		near, far := net.Pipe()
		go func() {
			dial(near)
			_ = near.Close()
		}()
		defer func() { _ = far.Close() }()
		_ = far.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 1<<14)
		n, err := far.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		hello, err := clienthello.ParseHello(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		return hello.JA4()
	}
	for name, got := range map[string]string{
		"Go": ja4(func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{ServerName: gatewayName, InsecureSkipVerify: true}).Handshake()
		}),
		"a stale Chrome": ja4(func(c net.Conn) {
			u, err := staleClient(c, &utls.Config{ServerName: gatewayName, InsecureSkipVerify: true})
			if err == nil {
				_ = u.Handshake()
			}
		}),
	} {
		if t.Logf("JA4 of %s: %s", name, got); got == today {
			t.Errorf("JA4 takes %s for today's Chromium", name)
		}
	}
}

// flowOf makes a connection of segments, positive sizes from the client, the first of them with change_cipher_spec.
func flowOf(sizes ...int) *watched {
	c := &watched{}
	for i, n := range sizes {
		s := segment{up: n > 0, size: max(n, -n)}
		s.data = make([]byte, s.size)
		if i == 0 {
			copy(s.data, changeCipherSpec)
		}
		c.segments = append(c.segments, s)
	}
	return c
}
