package hostnet

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Resolvers are those that the machine had before, for whoever looks names up outside of the tunnel. A resolver on this
// machine whose own questions are captured is none of them, and neither is the tunnel's own.
func (h *Host) Resolvers() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, err := readResolv(h.resolvConf())
	if before := h.kept.Resolv; before != nil && bytes.Equal(now.Text, before.Ours) {
		now = *before
	}
	if err != nil {
		return nil
	}
	outside := func(text []byte) []netip.Addr {
		return slices.DeleteFunc(nameservers(text), func(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(h.dns, a) })
	}
	if found := outside(now.Text); len(found) > 0 {
		return found
	}
	text, err := os.ReadFile(h.asked)
	if err != nil {
		return nil
	}
	return outside(text)
}

// nameservers are those of a resolv.conf(5), in order.
func nameservers(text []byte) (found []netip.Addr) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil && !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	return found
}
