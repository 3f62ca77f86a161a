package rules

import (
	"slices"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// IPProtocol acts on every flow of some protocols of IP that tunnels use: 47, GRE, is PPTP's data.
//
// What an order to block VPNs is carried out with at the least effort; no measurement of it is known.
type IPProtocol struct {
	Aim
	// Numbers are IANA's; zero length is 47 alone.
	Numbers []int `toml:"numbers"`
	Then    Then  `toml:"then"`
}

func (r *IPProtocol) check(place firewall.Place) error {
	for _, n := range r.Numbers {
		if n < 1 || n > 255 || n == firewall.TCP || n == firewall.UDP || n == firewall.ICMP || n == firewall.ICMPv6 {
			return wrong("numbers", "%d is no protocol of a tunnel", n)
		}
	}
	if len(r.Ports) > 0 {
		return wrong("ports", "these protocols have none")
	}
	return checkAll(&r.Aim, &r.Then, place)
}

// Watch acts on the first packet.
func (r *IPProtocol) Watch(f *firewall.Flow) firewall.Watcher {
	numbers := r.Numbers
	if len(numbers) == 0 {
		numbers = []int{firewall.GRE}
	}
	if !slices.Contains(numbers, int(f.Proto)) || !r.at(f) {
		return nil
	}
	return firewall.WatchFunc(func(f *firewall.Flow, _ *firewall.Packet, do *firewall.Action) {
		do.Done()
		r.Then.do(f, do, "protocol %d", f.Proto)
	})
}
