package rules

import (
	"encoding/binary"
	"errors"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// SSTP looks for TLS without ALPN whose records have the lengths of SSTP's beginning ([MS-SSTP], section 3.2.5.2): a request,
// an answer, then 14 bytes (Call Connect Request) and 48 (Call Connect Acknowledge), each with the same overhead.
//
//	client ─ SSTP_DUPLEX_POST … ─► server    100 to 600 bytes
//	       ◄──────── 200 OK ──────           50 to 600
//	       ── call connect request ─►        14 + overhead
//	       ◄─ call connect ack ──────        48 + overhead
//
// It sees lengths of records and the hello, nothing inside: SSTP is HTTP in TLS, and a server that is probed says what it is.
// SSTP worked in Iran in 2022 with Windows's TLS and was blocked in China (users' reports, net4people/bbs 146); how China
// did it is not known. The lengths are our reading of the protocol.
type SSTP struct {
	Aim // ports empty is 443 alone
	// JA3 and JA4 narrow it to lists, of Windows say; empty is any.
	JA3 []string `toml:"ja3"`
	JA4 []string `toml:"ja4"`
	// ALPN looks at hellos too that have it.
	ALPN bool `toml:"alpn"`
	// Overhead is what a record may add; zero is 17 to 80.
	Overhead [2]int `toml:"overhead"`
	Then     Then   `toml:"then"`
}

func (r *SSTP) check(place firewall.Place) error {
	if r.Overhead[0] < 0 || r.Overhead[0] > r.Overhead[1] {
		return wrong("overhead", "wants the least and the most, as [17, 80]")
	}
	return checkAll(&r.Aim, &r.Then, place, checkJA3("ja3", r.JA3))
}

// Watch looks at the records.
func (r *SSTP) Watch(f *firewall.Flow) firewall.Watcher {
	const port = 443
	if f.Proto != firewall.TCP || len(r.Ports) == 0 && f.Server.Port() != port || !r.at(f) {
		return nil
	}
	return &sstp{rule: r}
}

type sstp struct {
	rule *SSTP
	met  bool // the hello is right
	read [2]int
	last [4]sstpRecord // records of application data
	seen int
}

type sstpRecord struct{ side, size int }

func (w *sstp) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if len(p.Payload) == 0 {
		return
	}
	const maxRecords, maxPackets = 30, 100
	if w.seen > maxRecords || f.FromClient.Data+f.FromServer.Data > maxPackets {
		do.Done()
		return
	}
	if !w.met {
		if !p.FromClient {
			do.Done()
			return
		}
		switch hello, err := look.ClientHello(f.Text(true), true); {
		case errors.Is(err, look.ErrMore):
			return
		case err != nil || !w.rule.hello(hello):
			do.Done()
			return
		}
		w.met = true
	}
	s, text := side(p), f.Text(p.FromClient)
	const header, applicationData = 5, 23
	for w.read[s]+header <= len(text) {
		b := text[w.read[s]:]
		size := int(binary.BigEndian.Uint16(b[3:]))
		if len(b) < header+size {
			return
		}
		w.read[s] += header + size
		if b[0] == applicationData && w.record(sstpRecord{s, size}) {
			do.Done()
			w.rule.Then.do(f, do, "records like SSTP's")
			return
		}
	}
}

func (r *SSTP) hello(h *clienthello.Hello) bool {
	if _, alpn := h.Extension(clienthello.ALPN); alpn && !r.ALPN {
		return false
	}
	return listed(h, r.JA3, r.JA4, nil, "any") != ""
}

// record takes one in, and reports whether the last four are SSTP's.
func (w *sstp) record(r sstpRecord) bool {
	w.seen++
	copy(w.last[:], w.last[1:])
	w.last[3] = r
	for i, r := range w.last {
		if r.side != i%2 {
			return false
		}
	}
	const request, acknowledge = 14, 48
	overhead := w.last[2].size - request
	bounds := or(w.rule.Overhead, [2]int{17, 80})
	return within(w.last[0].size, 100, 600) && within(w.last[1].size, 50, 600) && within(overhead, bounds[0], bounds[1]) &&
		w.last[3].size == acknowledge+overhead
}

func within(n, least, most int) bool { return n >= least && n <= most }
