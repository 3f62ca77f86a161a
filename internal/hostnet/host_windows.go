package hostnet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/godwit-vpn/godwit/internal/hostnet/kept"
	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
	"github.com/godwit-vpn/godwit/internal/hostnet/wfp"
)

// Dir is where the state lies by which a dead process's changes are undone. There is one network to a machine, so there
// is one place, and one that only administrators write to.
var Dir = filepath.Join(programs(), "Godwit", "Data", "hostnet")

func programs() string {
	if dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0); err == nil {
		return dir
	}
	return `C:\Program Files`
}

// Protect has a socket send by the interface that leads to the world, as that is now. It is a net.ListenConfig's or Dialer's
// Control. What is in this machine needs no way out.
func Protect(network, address string, c syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Unmap().IsLoopback() {
		return nil
	}
	all, err := adapters()
	if err != nil {
		return err
	}
	six := strings.HasSuffix(network, "6")
	a, ok := outside(all, six)
	if !ok {
		return windows.WSAENETUNREACH
	}
	const unicastIF = 31 // IP_UNICAST_IF and IPV6_UNICAST_IF; the first is in the network's order of bytes
	var index [4]byte
	binary.BigEndian.PutUint32(index[:], a.index[0])
	set := func(fd uintptr) {
		err = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IP, unicastIF, int(int32(binary.NativeEndian.Uint32(index[:]))))
	}
	if six {
		set = func(fd uintptr) {
			err = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IPV6, unicastIF, int(a.index[1]))
		}
	}
	if e := c.Control(set); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("bind the socket to interface %q: %w", a.name, err)
	}
	return nil
}

// system is what a Host knows of Windows.
type system struct{}

func thisSystem() system { return system{} }

// changes is what it takes to undo our changes. Addresses, routes and resolvers go with the TUN.
type changes struct {
	Rules    []string `json:"rules,omitempty"` // ids of the kill switch's
	Firewall bool     `json:"firewall,omitempty"`
}

func allowed() error {
	if !windows.GetCurrentProcessToken().IsElevated() {
		return fmt.Errorf("the machine's network: %w: it takes an administrator", fs.ErrPermission)
	}
	return nil
}

// set makes the network what is desired. The kill switch is first, so whatever fails after it, nothing leaks.
func (h *Host) set(d Desired) error {
	switch {
	case d.Router:
		return fmt.Errorf("forwarding for others: not supported on Windows: %w", errors.ErrUnsupported)
	case len(d.Direct) > 0:
		return fmt.Errorf("direct networks: not supported on Windows: %w", errors.ErrUnsupported)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if err := h.loadFirewall(d, program); err != nil {
		return fmt.Errorf("kill switch: %w", err)
	}
	if !h.kept.Firewall && len(d.Addrs) > 0 {
		h.kept.Firewall = true
		if err := h.save(); err != nil {
			return err
		}
		if err := run(windowsFirewall(d, program)); err != nil {
			return fmt.Errorf("firewall: %w", err)
		}
	}
	h.dns = d.DNS
	if d.Tun == "" {
		return nil
	}
	if err := setTun(d); err != nil {
		return fmt.Errorf("interface %s: %w", d.Tun, err)
	}
	return nil
}

// loadFirewall makes the kill switch's rules what they are to be.
func (h *Host) loadFirewall(d Desired, program string) error {
	var luid uint64
	if d.Tun != "" {
		all, err := adapters()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(a adapter) bool { return a.name == d.Tun })
		if i < 0 {
			return fmt.Errorf("there is no interface %q", d.Tun)
		}
		luid = all[i].luid
	}
	var links []lan.Link
	if d.LAN {
		var err error
		if links, err = lan.Links(d.Tun); err != nil {
			return err
		}
	}
	return wfp.Set(wfp.Rules(d.LAN, links, luid, program), program, &h.kept.Rules, h.save)
}

// setTun gives the TUN its addresses, routes and resolvers, unless it has them, and waits until they can be used.
func setTun(d Desired) error {
	lacks := func() (bool, error) {
		tun, err := net.InterfaceByName(d.Tun)
		if err != nil {
			return false, err
		}
		addrs, err := tun.Addrs()
		return slices.ContainsFunc(d.Addrs, func(p netip.Prefix) bool {
			return !slices.ContainsFunc(addrs, func(a net.Addr) bool {
				n, ok := a.(*net.IPNet)
				return ok && n.IP.Equal(p.Addr().AsSlice())
			})
		}), err
	}
	lack, err := lacks()
	if err != nil || !lack {
		return err
	}
	for _, command := range windowsInterface(d) {
		if err := run(command); err != nil {
			return err
		}
	}
	for range 50 {
		usable := true
		for _, p := range d.Addrs {
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Addr(), 0)))
			if usable = usable && err == nil; err == nil {
				l.Close()
			}
		}
		if usable {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("its addresses cannot be used after five seconds")
}

// Resolvers are those that the machine's network has named, for whoever looks names up outside of the tunnel.
func (h *Host) Resolvers() (found []netip.Addr) {
	h.mu.Lock()
	ours := h.dns
	h.mu.Unlock()
	all, err := adapters()
	if err != nil {
		return nil
	}
	a, _ := outside(all, false)
	return slices.DeleteFunc(a.resolver, func(r netip.Addr) bool { return r.IsLoopback() || slices.Contains(ours, r) })
}

// blocked reads no counters: the platform has none for us.
func blocked() (packets, bytes uint64, err error) { return 0, 0, fs.ErrNotExist }

// undo makes everything as it was, and says what it found to do. It goes on after an error.
func (h *Host) undo() (undone []string, err error) {
	if h.kept.Firewall {
		if run([]string{"netsh", "advfirewall", "firewall", "delete", "rule", "name=" + firewallRule}) == nil {
			undone = append(undone, "removed the rule "+firewallRule+" of Windows' firewall")
		}
	}
	removed, err := wfp.Remove(h.kept.Rules)
	if removed {
		undone = append(undone, "removed the kill switch: Godwit's rules of the Windows Filtering Platform")
	}
	if err != nil {
		return undone, err // what is kept is still needed
	}
	h.kept = changes{}
	return undone, kept.Remove(h.dir)
}

// Captured reports whether this machine's network is Godwit's, and by which process: 0 if that one has died, or if this user
// may not know.
func Captured(stateDir string) (captured bool, pid int) {
	if there, err := wfp.There(); err != nil || !there {
		return false, 0
	}
	return true, holder(stateDir)
}

// adapters lists the machine's interfaces.
func adapters() (all []adapter, err error) {
	const flags = windows.GAA_FLAG_SKIP_ANYCAST | windows.GAA_FLAG_SKIP_MULTICAST | windows.GAA_FLAG_INCLUDE_GATEWAYS
	size := uint32(16 << 10) // what Microsoft recommends to begin with
	var first *windows.IpAdapterAddresses
	for {
		buf := make([]uint64, size/8+1) // aligned
		first = (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0]))
		err = windows.GetAdaptersAddresses(windows.AF_UNSPEC, flags, 0, first, &size)
		if !errors.Is(err, windows.ERROR_BUFFER_OVERFLOW) || size > 1<<20 {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	for i := first; i != nil; i = i.Next {
		a := adapter{name: windows.UTF16PtrToString(i.FriendlyName), luid: i.Luid, up: i.OperStatus == windows.IfOperStatusUp,
			index: [2]uint32{i.IfIndex, i.Ipv6IfIndex}, metric: [2]uint32{i.Ipv4Metric, i.Ipv6Metric}}
		for g := i.FirstGatewayAddress; g != nil; g = g.Next {
			family := 0
			if g.Address.IP().To4() == nil {
				family = 1
			}
			a.gateway[family] = true
		}
		for s := i.FirstDnsServerAddress; s != nil; s = s.Next {
			// fec0::/10 are placeholders that nobody answers at.
			r, ok := netip.AddrFromSlice(s.Address.IP())
			if r = r.Unmap(); ok && !(r.Is6() && r.As16()[0] == 0xfe) && !slices.Contains(a.resolver, r) {
				a.resolver = append(a.resolver, r)
			}
		}
		all = append(all, a)
	}
	return all, nil
}

// run runs one of the system's tools.
func run(command []string) error {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(system, command[0]+".exe"), command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{HideWindow: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
