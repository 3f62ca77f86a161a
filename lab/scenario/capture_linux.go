package scenario

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/godwit-vpn/godwit/lab/capture"
)

// What is kept of a failure.
const (
	kept       = 2000 // packets at the firewall's inside, of everybody
	snapped    = 200  // bytes of each in the file
	mostOfFile = 24 << 10
)

// save writes the last packets between the client and its gateway, the banned site, and whom it asks for names to a small
// file. Their times are from the first.
func (c *country) save(path string) error {
	var all bytes.Buffer
	if err := c.packets.Save(&all); err != nil {
		return err
	}
	frames, err := capture.ReadPcap(&all)
	if err != nil {
		return err
	}
	ends := slices.Concat(c.gateways, names[banned], []netip.Addr{resolverAddr, dnsAddr})
	const fileHead, frameHead = 24, 16
	size := fileHead
	var ours []capture.Frame
	for _, f := range slices.Backward(frames) {
		a, b := ipEnds(f.Data)
		if !(slices.Contains(clientAddrs, a) && slices.Contains(ends, b) || slices.Contains(clientAddrs, b) && slices.Contains(ends, a)) {
			continue
		}
		if size += frameHead + min(len(f.Data), snapped); size > mostOfFile {
			break
		}
		ours = append(ours, f)
	}
	slices.Reverse(ours)
	var begin time.Duration
	for i := range ours {
		if i == 0 {
			begin = ours[i].At
		}
		ours[i].At -= begin
	}
	var small bytes.Buffer
	if err := capture.WritePcap(&small, ours, 0, snapped); err != nil {
		return err
	}
	return os.WriteFile(path, small.Bytes(), 0o644)
}

// ipEnds are a frame's source and destination; none if it is not IP.
func ipEnds(frame []byte) (src, dst netip.Addr) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	if n := p.NetworkLayer(); n != nil {
		src, _ = netip.AddrFromSlice(n.NetworkFlow().Src().Raw())
		dst, _ = netip.AddrFromSlice(n.NetworkFlow().Dst().Raw())
	}
	return src, dst
}

// captureName is the file of a cell's failure.
func captureName(profile, peer, scenario string) string {
	return strings.ReplaceAll(profile+"-"+peer+"-"+scenario+".pcap", "/", "_")
}
