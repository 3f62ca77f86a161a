package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// labelled is what a classifier says of each connection, by the client's address.
type labelled map[netip.AddrPort]string

// sameLabels fails if a classifier says of links what it does not say of Chromium's visits to the same gateway: of those who
// come back, what it does not say of a Chromium that does.
func (c *capture) sameLabels(t *testing.T, program string, labels labelled) {
	t.Helper()
	said := map[string]map[string]int{}
	for _, kind := range kinds {
		said[kind] = map[string]int{}
		for _, conn := range c.conns[kind] {
			said[kind][labels[conn.client]]++
		}
		t.Logf("%s calls %s: %v", program, kind, said[kind])
	}
	odd := map[string]bool{}
	for _, kind := range []string{links, backLinks, early, curlOver, browserOver} {
		for _, conn := range c.conns[kind] {
			label, browsers := labels[conn.client], map[string]int{}
			for _, visits := range visitsLike(conn) {
				maps.Copy(browsers, said[visits])
			}
			if browsers[label] == 0 && !odd[kind+label] {
				odd[kind+label] = true
				t.Errorf("%s calls %s %q, and never a Chromium at the same website: that is %v", program, kind, label, browsers)
			}
		}
	}
	if len(said[links]) == 0 || len(said[backLinks]) == 0 || said[newVisitors][""]+said[returning][""]+said[revisits][""] > 0 {
		t.Errorf("%s says nothing of some connections", program)
	}
}

// wireGuard makes a capture of something that a classifier must know by another name.
func wireGuard(t *testing.T, dir string) (pcap string) {
	t.Helper()
	var frames []frame
	for i, p := range []struct {
		up   bool
		kind byte
		size int
	}{{true, 1, 148}, {false, 2, 92}, {true, 4, 128}, {false, 4, 1312}} {
		payload := make([]byte, p.size)
		_, _ = rand.Read(payload)
		copy(payload, []byte{p.kind, 0, 0, 0})
		if p.kind == 1 {
			clear(payload[132:]) // no cookie
		}
		from, to := netip.MustParseAddrPort("198.51.100.2:41414"), netip.MustParseAddrPort(gatewayAddr+":51820")
		if !p.up {
			from, to = to, from
		}
		at := time.Now().Add(time.Duration(i) * oneWay)
		frames = append(frames, frame{at, p.up, udpFrame(from, to, payload)})
	}
	pcap = filepath.Join(dir, "wireguard.pcap")
	writePcap(t, pcap, frames)
	return pcap
}

// udpFrame makes an Ethernet frame with a datagram in it, without checksums.
func udpFrame(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 14, 42+len(payload))
	b[12] = 8
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, 17, 0, 0)
	b = append(append(b, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	for _, v := range []int{int(from.Port()), int(to.Port()), 8 + len(payload), 0} {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return append(b, payload...)
}

var (
	ndpiFlow = regexp.MustCompile(`(?:TCP|UDP) (\d+\.\d+\.\d+\.\d+:\d+) <?->`)
	// What it says that is of the kind of connection, and not of one: the bare words are of browsers.
	ndpiSays = regexp.MustCompile(`\[(proto: [^]]*|cat: [^]]*|Risk: [^]]*|Risk Score: [^]]*|Confidence: [^]]*|TLSv[^]]*|` +
		`JA3S: [^]]*|Cipher: [^]]*|Encrypted|Chrome|Firefox|Safari)\]`)
)

// ndpi has ndpiReader name the connections of a capture.
func ndpi(t *testing.T, w *world, pcap string) labelled {
	t.Helper()
	labels := labelled{}
	for line := range strings.Lines(w.middle.run(t, "", "ndpiReader", "-i", pcap, "-v", "2")) {
		m := ndpiFlow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		labels[netip.MustParseAddrPort(m[1])] = strings.Join(ndpiSays.FindAllString(line, -1), " ")
	}
	return labels
}

// askNDPI asks nDPI what the connections are.
func (c *capture) askNDPI(t *testing.T, w *world, pcap string) {
	need(t, "ndpiReader")
	if said := fmt.Sprint(ndpi(t, w, wireGuard(t, w.dir))); !strings.Contains(said, "WireGuard") {
		t.Errorf("ndpiReader calls WireGuard %q, so that it would not know a VPN", said)
	}
	c.sameLabels(t, "ndpiReader", ndpi(t, w, pcap))
}

// wireshark has tshark name the protocols in the connections of a capture.
func wireshark(t *testing.T, w *world, pcap string) labelled {
	t.Helper()
	out := w.middle.run(t, "", "tshark", "-n", "-r", pcap, "-T", "fields", "-e", "ip.src", "-e", "ip.dst",
		"-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "udp.srcport", "-e", "_ws.col.Protocol")
	found := map[netip.AddrPort]map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 6 {
			continue
		}
		client := f[0] + ":" + f[2] + f[4]
		if f[0] == gatewayAddr {
			client = f[1] + ":" + f[3]
		}
		addr, err := netip.ParseAddrPort(client)
		if err != nil {
			continue
		}
		if found[addr] == nil {
			found[addr] = map[string]bool{}
		}
		found[addr][f[5]] = true
	}
	labels := labelled{}
	for addr, names := range found {
		labels[addr] = strings.Join(slices.Sorted(maps.Keys(names)), " ")
	}
	return labels
}

// askTshark asks Wireshark's dissectors what the connections are.
func (c *capture) askTshark(t *testing.T, w *world, pcap string) {
	need(t, "tshark")
	if said := fmt.Sprint(wireshark(t, w, wireGuard(t, w.dir))); !strings.Contains(said, "WireGuard") {
		t.Errorf("tshark calls WireGuard %q, so that it would not know a VPN", said)
	}
	c.sameLabels(t, "tshark", wireshark(t, w, pcap))
}
