package network

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strings"
)

// router returns the hardware address of the router of the default route, or "".
func router() string {
	routes, err := os.Open("/proc/net/route")
	if err != nil {
		return ""
	}
	defer routes.Close()
	gateway, dev := defaultRoute(routes)
	if !gateway.IsValid() {
		return ""
	}
	arp, err := os.Open("/proc/net/arp")
	if err != nil {
		return ""
	}
	defer arp.Close()
	return hardware(arp, gateway, dev)
}

const maxTable = 1 << 20 // bytes of a kernel's table that are read

// defaultRoute reads /proc/net/route: Iface Destination Gateway Flags RefCnt Use Metric Mask …, addresses in the order of
// the machine's bytes. Of several default routes the first is the one in use.
func defaultRoute(r io.Reader) (gateway netip.Addr, dev string) {
	lines := bufio.NewScanner(io.LimitReader(r, maxTable))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil || len(b) != 4 {
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
		if gateway = netip.AddrFrom4(a); !gateway.IsUnspecified() {
			return gateway, f[0]
		}
	}
	return netip.Addr{}, ""
}

// hardware reads /proc/net/arp: IP address, HW type, Flags, HW address, Mask, Device.
func hardware(r io.Reader, of netip.Addr, dev string) string {
	lines := bufio.NewScanner(io.LimitReader(r, maxTable))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 6 && f[0] == of.String() && f[5] == dev && f[3] != "00:00:00:00:00:00" {
			return f[3]
		}
	}
	return ""
}
