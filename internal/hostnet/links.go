//go:build darwin || windows

package hostnet

import (
	"net"
	"slices"
)

// localLinks are the local networks that this machine's interfaces are on.
func localLinks(tun string) (links []onLink, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.Name == tun || i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			if p, ok := localOn(prefixOf(n)); ok && !slices.Contains(links, onLink{i.Name, p}) {
				links = append(links, onLink{i.Name, p})
			}
		}
	}
	return links, nil
}
