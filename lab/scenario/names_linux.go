package scenario

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// missing is a name that no resolver knows: a client that then asks around gives it away.
const missing = "missing.example"

// visited are the names that must not be asked for outside of the way across.
var visited = []string{banned, allowed, missing}

// straggler is how long after the last visit a query may still come.
const straggler = 2 * time.Second

// names visits sites by name through a peer, with curl and some with a browser, and listens at the client's only cable for
// who is asked for those names.
func (c *country) names(ctx context.Context, p peer.Peer, browse []string) run {
	wire, err := capture.Start(c.host("client"), "eth0", 0)
	if err != nil {
		return run{verdict: survival.None, note: err.Error()}
	}
	var frames []capture.Frame
	stop := func() {
		if wire != nil {
			frames = wire.Stop()
			wire = nil
		}
	}
	defer stop()
	if _, err := curlProgram.find(); err != nil {
		return run{verdict: survival.None, note: err.Error()}
	}
	return c.through(ctx, p, func(base traffic.Fetch) run {
		if base.Proxy == "" && base.Addr.IsValid() {
			return run{verdict: survival.None, note: "its client takes packets, not names: whom the machine asks is not its business"}
		}
		open, why := c.visitNames(ctx, base.Proxy, base.Proxy != "" || peer.TakesNames(p), browse)
		if sleep(ctx, straggler) != nil {
			return run{verdict: survival.None, note: "interrupted"}
		}
		stop()
		leaks := leaked(frames)
		for _, name := range c.domestic.Asked() { // by a way that was not listened to
			if len(leaks) == 0 && isVisited(name) {
				leaks = add1(leaks, "the domestic resolver was asked for "+name)
			}
		}
		switch {
		case len(leaks) > 0:
			return run{verdict: survival.Blocked, note: "leaks: " + strings.Join(leaks, "; ")}
		case open == 0:
			return run{verdict: survival.None, note: "nothing leaked, but nothing could be visited either: " + why}
		}
		return run{verdict: survival.Passes}
	})
}

// visitNames visits all names and tells how many could be, and why the last could not. Where something has to get across, it is
// waited for.
func (c *country) visitNames(ctx context.Context, proxy string, across bool, browse []string) (open int, why string) {
	client := c.host("client")
	var toCurl, toChromium []string
	if proxy != "" {
		toCurl, toChromium = []string{"--socks5-hostname", proxy}, []string{"--proxy-server=socks5://" + proxy}
	}
	visit := curl("https://"+banned+"/", "2", 200, toCurl...)
	begin := time.Now()
	for err := visit(ctx, c, client, 0); err != nil && across && time.Since(begin) < firstVisit; err = visit(ctx, c, client, 0) {
		if sleep(ctx, time.Second) != nil { // it may not be across yet
			return 0, "interrupted"
		}
	}
	for _, name := range visited {
		if err := curl("https://"+name+"/", "2", 200, toCurl...)(ctx, c, client, 0); err != nil {
			why = err.Error()
		} else {
			open++
		}
		if _, err := chromiumProgram.find(); err != nil || !slices.Contains(browse, name) {
			continue
		}
		dom, err := c.chromium(ctx, client, "https://"+name+"/", toChromium...)
		if err := loaded(dom, name, err); err != nil {
			why = err.Error()
		} else {
			open++
		}
	}
	return open, why
}

func isVisited(name string) bool {
	return slices.ContainsFunc(visited, func(v string) bool { return name == v || strings.HasSuffix(name, "."+v) })
}

// add1 adds what is not there yet.
func add1(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// namePorts are where names are asked for: DNS, over TLS and QUIC too, mDNS, LLMNR.
var namePorts = []uint16{53, 853, 5353, 5355}

// leaked reads what left a host and lists who was asked for visited names, each once. What cannot be read is taken for such
// a question.
func leaked(frames []capture.Frame) (leaks []string) {
	for _, f := range frames {
		if !f.Outgoing {
			continue
		}
		proto, to, payload := carried(f.Data)
		if len(payload) == 0 {
			continue
		}
		resolver := to.Addr() == dnsAddr || to.Addr() == resolverAddr
		if !slices.Contains(namePorts, to.Port()) && !resolver {
			continue
		}
		asked, ok := questions(proto, to.Port(), payload)
		if !ok {
			leaks = add1(leaks, fmt.Sprintf("%s was asked over %s what cannot be read", to, proto))
			continue
		}
		for _, name := range asked {
			if isVisited(name) {
				leaks = add1(leaks, fmt.Sprintf("%s was asked over %s for %s", to, proto, name))
			}
		}
	}
	return leaks
}

// carried is what a frame carries in UDP or TCP, and to whom; nothing for other frames.
func carried(frame []byte) (proto string, to netip.AddrPort, payload []byte) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	if p.NetworkLayer() == nil {
		return "", to, nil
	}
	addr, ok := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	if !ok {
		return "", to, nil
	}
	switch t := p.TransportLayer().(type) {
	case *layers.UDP:
		return "UDP", netip.AddrPortFrom(addr, uint16(t.DstPort)), t.Payload
	case *layers.TCP:
		return "TCP", netip.AddrPortFrom(addr, uint16(t.DstPort)), t.Payload
	}
	return "", to, nil
}

// questions reads the names that a message asks for; false is for what is no plain DNS.
func questions(proto string, port uint16, payload []byte) (asked []string, ok bool) {
	if proto == "TCP" { // the length comes first, sometimes in a segment of its own
		if len(payload) == 2 {
			return nil, port != 853
		}
		if len(payload) < 2 || int(binary.BigEndian.Uint16(payload)) > len(payload)-2 {
			return nil, false
		}
		payload = payload[2:]
	}
	m := new(dns.Msg)
	if port == 853 || m.Unpack(payload) != nil {
		return nil, false
	}
	for _, q := range m.Question {
		asked = append(asked, strings.ToLower(strings.TrimSuffix(q.Name, ".")))
	}
	return asked, true
}
