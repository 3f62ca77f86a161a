package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
	"github.com/godwit-vpn/godwit/internal/hostnet/kept"
	"github.com/godwit-vpn/godwit/internal/hostnet/sysctl"
)

// Dir is where the state lies by which a dead process's changes are undone. There is one network to a machine, so there
// is one place.
const Dir = "/var/lib/godwit/hostnet"

// Protect marks a socket as one that goes out by the physical network. It is a net.ListenConfig's or Dialer's Control.
func Protect(network, address string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, Mark) }); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("mark the socket: %w: it takes root or CAP_NET_ADMIN", err)
	}
	return nil
}

// system is what a Host knows of Linux; guarded by its mu.
type system struct {
	asked    string // where systemd-resolved tells whom it asks
	resolved string // what systemd-resolved was last told
}

// allowed leaves it to the kernel to say: it does not take root.
func allowed() error { return nil }

func thisSystem() system { return system{asked: "/run/systemd/resolve/resolv.conf"} }

// changes is what it takes to undo our changes. It is on the disk before any of them is made.
type changes struct {
	Tun     string         `json:"tun,omitempty"`
	Addrs   []netip.Prefix `json:"addresses,omitempty"`
	Sysctls sysctl.Changed `json:"sysctls,omitempty"`
	Resolv  *resolv        `json:"resolv_conf,omitempty"`
}

// set makes the network what is desired. The firewall is first, so whatever fails after it, nothing leaks.
func (h *Host) set(d Desired) error {
	if err := loadFirewall(d); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	if err := loadNeighbours(d); err != nil {
		return fmt.Errorf("firewall: neighbours: %w", err)
	}
	if h.kept.Tun != "" && h.kept.Tun != d.Tun {
		if err := iface.Clear(h.kept.Tun, h.kept.Addrs); err != nil {
			return fmt.Errorf("interface %s: %w", h.kept.Tun, err)
		}
		h.kept.Tun, h.kept.Addrs, h.resolved = "", nil, ""
	}
	if d.Tun != "" {
		h.kept.Tun, h.kept.Addrs = d.Tun, d.Addrs
	}
	if err := h.save(); err != nil {
		return err
	}
	if err := h.kept.Sysctls.Set(sysctls(d), h.save); err != nil {
		return err
	}
	if d.Tun != "" {
		if err := iface.Set(d.Tun, d.Addrs, d.MTU); err != nil {
			return fmt.Errorf("interface %s: %w", d.Tun, err)
		}
	}
	if err := setRoutes(d); err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	if err := setRules(d); err != nil {
		return fmt.Errorf("routing rules: %w", err)
	}
	h.dns = d.DNS
	if err := h.setDNS(d); err != nil {
		return fmt.Errorf("%w: %w", ErrDNS, err)
	}
	return nil
}

// sysctls are the settings that are needed.
func sysctls(d Desired) (want []sysctl.Setting) {
	// Answers to marked sockets are marked by the firewall. With this a strict reverse path filter looks for the way back
	// by the same mark, and finds it.
	want = sysctl.Want(want, "ipv4/conf/all/src_valid_mark", "1")
	if !d.Router {
		return want
	}
	return append(want, sysctl.Forwarding()...)
}

// undo makes everything as it was, and says what it found to do. It goes on after an error.
func (h *Host) undo() (undone []string, err error) {
	var errs []error
	did := func(what []string, err error) {
		undone = append(undone, what...)
		errs = append(errs, err)
	}
	did(h.restoreDNS())
	did(h.kept.Sysctls.Restore(nil))
	if h.kept.Tun != "" {
		errs = append(errs, iface.Clear(h.kept.Tun, h.kept.Addrs))
		endSockets(h.kept.Addrs)
	}
	did(removeRules())
	did(removeRoutes())
	did(removeFirewall())
	if err := errors.Join(errs...); err != nil {
		return undone, err // what is kept is still needed
	}
	h.kept = changes{}
	return undone, kept.Remove(h.dir)
}
