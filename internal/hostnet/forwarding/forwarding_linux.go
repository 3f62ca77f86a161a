package forwarding

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/filelock"
	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
	"github.com/godwit-vpn/godwit/internal/hostnet/kept"
	"github.com/godwit-vpn/godwit/internal/hostnet/nft"
	"github.com/godwit-vpn/godwit/internal/hostnet/sysctl"
)

// TUN is what a gateway's process has. Several processes may each have one, as while one takes another's place:
//
//	routes     one for each session's address, in the main table. It is the list of what is taken, too: who adds one that
//	           another process has added fails. They go with the TUN, and that goes with its process.
//	firewall   table inet godwit-gateway (firewall_linux.go), the same for all of them: it knows their TUNs by how their names begin
//	settings   forwarding, kept in the state directory as they were before
//
// The last process to end undoes the latter two; if it is killed, the next one to start takes them over.
type TUN struct {
	// File is the TUN: one packet with each read and write. Its owner closes it, before Close.
	File *os.File
	// Number tells it from others that there are now.
	Number int

	dir  string
	link netlink.Link
	six  bool // this machine speaks IPv6
}

const (
	tunName = "godwit-gw" // and a number
	mtu     = 1500        // as the clients' own
)

// Open makes the TUN and has the kernel forward.
func Open(stateDir string, cfg Config) (_ *TUN, err error) {
	s, err := lockState(stateDir)
	if err != nil {
		return nil, err
	}
	defer s.lock.Close()
	t := &TUN{dir: stateDir, six: sysctl.HasIPv6()}
	var name string
	if t.File, name, err = iface.Create(tunName+"%d", false); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.File.Close()
			_, undoErr := s.undo()
			err = errors.Join(err, undoErr)
		}
	}()
	if t.Number, err = strconv.Atoi(strings.TrimPrefix(name, tunName)); err != nil {
		return nil, fmt.Errorf("TUN %s: %w", name, err)
	}
	own := []netip.Prefix{netip.PrefixFrom(cfg.Own4, 32), netip.PrefixFrom(cfg.Own6, 128)}
	if err := iface.Set(name, own, mtu); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	if t.link, err = netlink.LinkByName(name); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	// What the TUN's own settings are is nobody's affair when it has gone.
	want := slices.DeleteFunc(sysctl.Forwarding(), func(s sysctl.Setting) bool { return ours(path.Base(path.Dir(s.Name))) })
	if err := s.Sysctls.Set(want, s.save); err != nil {
		return nil, err
	}
	if err := loadFirewall(cfg, s.Sysctls); err != nil {
		return nil, fmt.Errorf("firewall: %w: it takes a kernel with nftables and connection tracking", err)
	}
	return t, nil
}

// ours reports whether an interface is a TUN of this or another gateway's process.
func ours(name string) bool { return strings.HasPrefix(name, tunName) }

// state is what it takes to undo our changes, in this process's hands.
type state struct {
	Sysctls sysctl.Changed `json:"sysctls,omitempty"`

	dir  string
	lock *os.File
}

// lockState waits for other processes that open or close theirs, which takes moments.
func lockState(dir string) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	name := filepath.Join(dir, "lock")
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	var s state
	if err = filelock.Wait(lock); err == nil {
		s, err = kept.Read[state](dir)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock file %q: %w", name, err)
	}
	s.dir, s.lock = dir, lock
	return &s, nil
}

func (s *state) save() error { return kept.Write(s.dir, s) }

// Take routes addresses to this process's TUN. It matches fs.ErrExist if one of them is another's; then none is taken. A
// machine without IPv6 takes none of that, which matches errors.ErrUnsupported if there are no others.
func (t *TUN) Take(addrs ...netip.Addr) error {
	if !t.six && !slices.ContainsFunc(addrs, netip.Addr.Is4) {
		return fmt.Errorf("route: this machine has no IPv6: %w", errors.ErrUnsupported)
	}
	for i, a := range addrs {
		if a.Is6() && !t.six {
			continue
		}
		if err := netlink.RouteAdd(t.route(a)); err != nil {
			t.Release(addrs[:i]...)
			return fmt.Errorf("route: %w", err)
		}
	}
	return nil
}

// Release gives addresses back that were taken.
func (t *TUN) Release(addrs ...netip.Addr) {
	for _, a := range addrs {
		if a.Is4() || t.six {
			netlink.RouteDel(t.route(a)) // with the TUN it goes anyway
		}
	}
}

func (t *TUN) route(a netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: t.link.Attrs().Index, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC,
		Dst: netipx.PrefixIPNet(netip.PrefixFrom(a, a.BitLen()))}
}

// Forget has the kernel's connection tracking forget the flows of these addresses.
func (t *TUN) Forget(addrs []netip.Addr) error {
	filter := make(flowsOf, len(addrs))
	for _, a := range addrs {
		filter[a] = true
	}
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// flowsOf picks the flows that began at one of these addresses.
type flowsOf map[netip.Addr]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (m flowsOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	a, ok := netip.AddrFromSlice(flow.Forward.SrcIP)
	return ok && m[a.Unmap()]
}

// Close undoes what no other process needs. The TUN's file is closed by then.
func (t *TUN) Close() error {
	_, err := Rescue(t.dir)
	return err
}

// Rescue undoes what gateways have left that do not run any more, and says in words what that was. While one runs it does
// nothing.
func Rescue(stateDir string) (undone []string, err error) {
	if !kept.There(stateDir) {
		return nil, nil
	}
	s, err := lockState(stateDir)
	if err != nil {
		return nil, err
	}
	defer s.lock.Close()
	return s.undo()
}

// undo undoes everything, unless there is a TUN still.
func (s *state) undo() (undone []string, err error) {
	links, err := iface.Dump(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(links, func(l netlink.Link) bool { return ours(l.Attrs().Name) }) {
		return nil, nil
	}
	// Forwarding first: without it nothing gets past where the table was.
	if undone, err = s.Sysctls.Restore(nil); err != nil {
		return undone, err
	}
	if _, err := nft.Remove(tableName); err != nil {
		return undone, err
	}
	return append(undone, "removed firewall table inet "+tableName), kept.Remove(s.dir)
}
