// Package wfp is Windows' kill switch: rules of the Windows Filtering Platform, as data, and, on Windows, their way in and out of it.
package wfp

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
)

// Rule is a rule of Windows' kill switch, as data: what the Windows Filtering Platform is asked where a socket connects, or
// first sends or receives. All that is named must hold. Of several rules the heaviest decides.
type Rule struct {
	Name   string
	Weight uint64
	Permit bool

	In  bool // where something comes in; else where it goes out
	Six bool

	Loopback              bool
	LUID                  uint64 // by this interface
	Program               string // the file of the program whose socket it is
	Proto                 uint8
	LocalPort, RemotePort uint16       // also the type and code of ICMP
	Remote                netip.Prefix // the other end's
}

// The weights. Each time the whole of our rules is changed, what blocks everything is there first and goes last.
const (
	weightEverything = 1
	weightLocal      = 2
	weightNames      = 3
	weightOurs       = 4
)

const (
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// Rules are all there are to be. local lets out the local network, too, and links are those that the machine is on; tun is the TUN's
// LUID, 0 if there is none, and program is our own file.
func Rules(local bool, links []lan.Link, tun uint64, program string) (rules []Rule) {
	both := func(r Rule) { // outwards and inwards
		r.In = false
		rules = append(rules, r)
		r.In = true
		rules = append(rules, r)
	}
	for _, six := range []bool{false, true} {
		both(Rule{Name: "everything else", Weight: weightEverything, Six: six})
		ours := Rule{Weight: weightOurs, Permit: true, Six: six}
		permit := func(name string, change func(*Rule)) {
			r := ours
			r.Name = name
			change(&r)
			both(r)
		}
		permit("in this machine", func(r *Rule) { r.Loopback = true })
		permit("Godwit's own", func(r *Rule) { r.Program = program })
		if tun != 0 {
			permit("the tunnel", func(r *Rule) { r.LUID = tun })
		}
		dhcp := [2]uint16{68, 67}
		if six {
			dhcp = [2]uint16{546, 547}
		}
		permit("DHCP", func(r *Rule) { r.Proto, r.LocalPort, r.RemotePort = protoUDP, dhcp[0], dhcp[1] })
		if six {
			for t := uint16(133); t <= 136; t++ {
				permit("neighbour discovery", func(r *Rule) { r.Proto, r.LocalPort = protoICMPv6, t })
			}
		}
		if !local {
			continue
		}
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, n := range lan.NamePorts {
				rules = append(rules, Rule{Name: "questions for names", Weight: weightNames, Six: six, Proto: proto, RemotePort: n})
			}
		}
		near := append([]netip.Prefix(nil), lan.Everybody...)
		for _, l := range links {
			near = append(near, l.Net)
		}
		for _, p := range near {
			if p.Addr().Is6() == six {
				both(Rule{Name: "the local network", Weight: weightLocal, Permit: true, Six: six, Remote: p})
			}
		}
	}
	return rules
}

// id tells a rule from all others, and is the same each time: so the platform needs no telling which rules there are already.
func (r Rule) id() [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "godwit %+v", r))
	return [16]byte(sum[:16])
}
