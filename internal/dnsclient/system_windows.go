package dnsclient

import (
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/godwit-vpn/godwit/internal/transport"
)

var errNoResolver = transport.Reason("this machine names no resolver: name one in the settings")

// System returns those of the interfaces that are up.
func System() (all []Resolver, err error) {
	size := uint32(16 << 10) // what Microsoft recommends to begin with
	var first *windows.IpAdapterAddresses
	for {
		buf := make([]uint64, size/8+1) // aligned
		first = (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0]))
		err = windows.GetAdaptersAddresses(windows.AF_UNSPEC, windows.GAA_FLAG_SKIP_ANYCAST|windows.GAA_FLAG_SKIP_MULTICAST, 0, first, &size)
		if err != windows.ERROR_BUFFER_OVERFLOW || size > 1<<20 {
			break
		}
	}
	if err != nil {
		return nil, errNoResolver
	}
	for a := first; a != nil; a = a.Next {
		if a.OperStatus != windows.IfOperStatusUp {
			continue
		}
		for s := a.FirstDnsServerAddress; s != nil; s = s.Next {
			ip := s.Address.IP()
			// fec0::/10 are placeholders that nobody answers at.
			if ip == nil || ip.IsLoopback() || len(ip) == net.IPv6len && ip.To4() == nil && ip[0] == 0xfe {
				continue
			}
			r := Resolver{kind: "udp", addr: net.JoinHostPort(ip.String(), "53")}
			if !slices.Contains(all, r) && len(all) < 3 {
				all = append(all, r)
			}
		}
	}
	if len(all) == 0 {
		return nil, errNoResolver
	}
	return all, nil
}
