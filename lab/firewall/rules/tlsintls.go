package rules

import (
	"strconv"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// TLSInTLS looks at the sizes, directions and distances of a connection's first packets for a TLS handshake inside of what
// cannot be read. Three models are published; each is a file of its own here, and says how near it comes:
//
//	xue      3-grams of sizes and a distance of bursts, both           tlsintls_xue.go
//	ndpi     a distance of four bursts                                 tlsintls_ndpi.go
//	trojan   a tree over four sums of bytes                            tlsintls_trojan.go
//
// If the connection is TLS itself, the outer handshake is left out: what counts begins with the client's first record of
// application data (in TLS 1.3, after the one with its Finished). Xue et al., USENIX Security 2024, put such a model next to
// an ISP of a million users for a month: true positives from 0.45 (h2) to 0.88 (httpt), 0.15 with eight streams at once, for
// 0.054 % of 110 million flows wrongly. Nobody is known to act on one connection's score: with no Then it only says.
type TLSInTLS struct {
	To    Nets   `toml:"to"`
	Ports []int  `toml:"ports"` // empty is every port
	Model string `toml:"model"` // xue, ndpi or trojan
	// Delta and Gamma are xue's thresholds; zero is our choice.
	Delta float64 `toml:"delta"`
	Gamma float64 `toml:"gamma"`
	// Limit is below which of ndpi's scores a connection is found; zero is 1, which is its own thresholds.
	Limit float64 `toml:"limit"`
	// Least is how many bytes trojan's inner hello has at least, of those that it looks for; zero is all. With 1600 only
	// those with a post-quantum key share are left, as browsers send them.
	Least int `toml:"least"`
	// Prefilter clears what has fewer than 2.5 round trips in its first 15 packets and less than 300 bytes in its first burst,
	// before the model is asked: 82.5 % of honest TLS and 1.5 % of proxied flows (the same paper).
	Prefilter bool `toml:"prefilter"`
	// Scores has connections that are cleared reported too, with their score.
	Scores bool `toml:"scores"`
	// Then, if it is there, is done with what is found.
	Then *Then `toml:"then"`
}

// flightPackets is how many packets with a payload the models look at.
const flightPackets = 25

func (r *TLSInTLS) check(place firewall.Place) error {
	if models[r.Model] == nil {
		return wrong("model", "%q is none of xue, ndpi, trojan", r.Model)
	}
	if r.Model != "xue" && (r.Delta != 0 || r.Gamma != 0) {
		return wrong("delta", "delta and gamma are of model xue")
	}
	if r.Delta < 0 || r.Gamma < 0 {
		return wrong("delta", "thresholds are positive")
	}
	if r.Limit < 0 || r.Limit != 0 && r.Model != "ndpi" {
		return wrong("limit", "is of model ndpi, and positive")
	}
	if r.Least < 0 || r.Least != 0 && r.Model != "trojan" {
		return wrong("least", "is of model trojan, and positive")
	}
	if r.Then != nil {
		return r.Then.check(place)
	}
	return nil
}

// A model judges the first packets of a connection: whether it is found, and by what score. It may be asked before there are
// flightPackets of them, and says found as soon as it is sure.
type model func(r *TLSInTLS, f *flight) (found bool, score string)

var models = map[string]model{"xue": xue, "ndpi": ndpiBursts, "trojan": trojanSums}

// Watch takes notes of the first packets.
func (r *TLSInTLS) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !f.Opened || !r.To.Covers(f.Server.Addr()) || !portIn(r.Ports, f.Server.Port()) {
		return nil
	}
	return &flight{rule: r}
}

// flight is what a model knows of a connection.
type flight struct {
	rule     *TLSInTLS
	syn      time.Duration
	rtt      time.Duration // from the SYN to the client's acknowledgement
	begun    bool          // something was said
	cover    bool          // it is TLS outside
	counting bool
	packets  []flightPacket
	next     [2]uint32 // what is not sent again, by direction
}

type flightPacket struct {
	at         time.Duration
	fromClient bool
	size       int
}

// Packet implements firewall.Watcher.
func (w *flight) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	size := len(p.Payload)
	switch {
	case p.Is(firewall.SYN):
		if p.FromClient {
			w.syn = p.At
		}
		return
	case w.rtt == 0 && p.FromClient:
		w.rtt = p.At - w.syn
	}
	if size == 0 || w.again(p, size) {
		return
	}
	if !w.begun {
		w.begun = true
		w.cover = isTLS(p.Payload) && p.Payload[0] == recordHandshake
		w.counting = !w.cover
	}
	if !w.counting {
		if size = w.afterHandshake(p, size); size == 0 {
			if f.FromClient.Data+f.FromServer.Data > 2*flightPackets {
				do.Done()
			}
			return
		}
		w.counting = true
	}
	w.packets = append(w.packets, flightPacket{p.At, p.FromClient, size})
	r := w.rule
	if r.Prefilter && len(w.packets) == 15 && w.quiet() {
		verdict(false, r.Then, r.Scores, f, do, "tls-in-tls %s: cleared by the pre-filter, sizes %s", r.Model, w.sizes())
		return
	}
	if len(w.packets) < flightPackets && r.Model == "xue" {
		return
	}
	if found, score := models[r.Model](r, w); found || len(w.packets) >= flightPackets {
		verdict(found, r.Then, r.Scores, f, do, "tls-in-tls %s: %s, sizes %s", r.Model, score, w.sizes())
	}
}

const (
	recordChangeCipher = 0x14
	recordHandshake    = 0x16
	recordData         = 0x17
)

// afterHandshake is how much of a packet comes after the outer handshake; that begins with the client.
func (w *flight) afterHandshake(p *firewall.Packet, size int) int {
	if !p.FromClient || len(p.Payload) < 5 || p.Payload[1] != 3 {
		return 0
	}
	b := p.Payload
	if b[0] == recordChangeCipher && len(b) >= 11 && b[6] == recordData { // TLS 1.3: then comes the Finished
		return max(0, size-(6+5+int(b[9])<<8+int(b[10])))
	}
	if b[0] == recordChangeCipher || b[0] == recordHandshake {
		return 0
	}
	return size
}

// again reports whether a packet was sent before.
func (w *flight) again(p *firewall.Packet, size int) bool {
	next := &w.next[0]
	if !p.FromClient {
		next = &w.next[1]
	}
	end := p.Seq + uint32(size)
	if *next != 0 && int32(end-*next) <= 0 {
		return true
	}
	*next = end
	return false
}

// quiet is the cheap pre-filter.
func (w *flight) quiet() bool {
	b := w.bursts(0, false)
	return len(b) < 5 && len(b) > 0 && b[0].bytes < 300
}

// aBurst is what one end sent until the other did, or until it waited.
type aBurst struct {
	fromClient bool
	bytes      int
	packets    int
}

// bursts groups the packets, less overhead bytes each. With waits a burst also ends before a packet that comes three round
// trips after the one before it.
func (w *flight) bursts(overhead int, waits bool) (all []aBurst) {
	for i, p := range w.packets {
		if n := len(all); n == 0 || all[n-1].fromClient != p.fromClient || waits && w.rtt > 0 && p.at-w.packets[i-1].at >= 3*w.rtt {
			all = append(all, aBurst{fromClient: p.fromClient})
		}
		b := &all[len(all)-1]
		b.bytes += max(0, p.size-overhead)
		b.packets++
	}
	return all
}

// sizes shows what was seen, as ">517 <2006 >80".
func (w *flight) sizes() string {
	var s strings.Builder
	for _, b := range w.bursts(0, false) {
		if s.Len() > 0 {
			s.WriteByte(' ')
		}
		s.WriteString(map[bool]string{true: ">", false: "<"}[b.fromClient])
		s.WriteString(strconv.Itoa(b.bytes))
	}
	return s.String()
}
