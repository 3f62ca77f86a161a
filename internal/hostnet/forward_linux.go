package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Forwarding is a gateway's part of this machine's network: a TUN, behind which its sessions are, with the kernel between that
// and the world. Several processes may each have one, as while one takes another's place:
//
//	routes     one for each session's address, in the main table. It is the list of what is taken, too: who adds one that
//	           another process has added fails. They go with the TUN, and that goes with its process.
//	firewall   table inet godwit-gateway, the same for all of them: it knows their TUNs by how their names begin
//	settings   forwarding, kept in the state directory as they were before
//
// The last process to end undoes the latter two; if it is killed, the next one to start takes them over.
type Forwarding struct {
	// File is the TUN: one packet with each read and write. Its owner closes it, before Close.
	File *os.File
	// Number tells it from others that there are now.
	Number int

	dir  string
	link netlink.Link
	six  bool // this machine speaks IPv6
}

const (
	forwardTable = "godwit-gateway"
	forwardTun   = "godwit-gw" // and a number
	forwardMTU   = 1500        // as the clients' own

	// mostFlows is what a session may have at a time: a machine of 1 GB remembers 65,536.
	mostFlows = 4096
)

// OpenForwarding makes the TUN and has the kernel forward.
func OpenForwarding(stateDir string, cfg Forward) (_ *Forwarding, err error) {
	h, err := lockForwarding(stateDir)
	if err != nil {
		return nil, err
	}
	defer h.lock.Close()
	f := &Forwarding{dir: stateDir, six: hasIPv6()}
	if f.File, err = createForwardTun(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.File.Close()
			_, undoErr := undoForwarding(h)
			err = errors.Join(err, undoErr)
		}
	}()
	name, err := tunName(f.File)
	if err != nil {
		return nil, err
	}
	if f.Number, err = strconv.Atoi(strings.TrimPrefix(name, forwardTun)); err != nil {
		return nil, fmt.Errorf("TUN %s: %w", name, err)
	}
	d := Desired{Tun: name, MTU: forwardMTU, Addrs: []netip.Prefix{netip.PrefixFrom(cfg.Own4, 32), netip.PrefixFrom(cfg.Own6, 128)}}
	if err := setTun(d); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	if f.link, err = netlink.LinkByName(name); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	// What the TUN's own settings are is nobody's affair when it has gone.
	want := slices.DeleteFunc(forwardingSysctls(), func(s sysctl) bool { return isForwardTun(path.Base(path.Dir(s.Name))) })
	if err := h.setSysctls(want); err != nil {
		return nil, err
	}
	if err := loadForwardTable(cfg, h.kept.Sysctls); err != nil {
		return nil, fmt.Errorf("firewall: %w: it takes a kernel with nftables and connection tracking", err)
	}
	return f, nil
}

// createForwardTun makes a TUN that vanishes when the file is closed, or with this process.
func createForwardTun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(forwardTun + "%d")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("making a TUN: %w", err)
	}
	return os.NewFile(uintptr(fd), "tun"), nil
}

func tunName(f *os.File) (string, error) {
	req, err := unix.NewIfreq("")
	if err == nil {
		err = onDescriptor(f, func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNGETIFF, req) })
	}
	if err != nil {
		return "", fmt.Errorf("naming the TUN: %w", err)
	}
	return req.Name(), nil
}

// onDescriptor keeps the file non-blocking, as File.Fd would not.
func onDescriptor(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(cerr, err)
}

func isForwardTun(name string) bool { return strings.HasPrefix(name, forwardTun) }

// lockForwarding waits for other processes that open or close theirs, which takes moments.
func lockForwarding(dir string) (*Host, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	name := filepath.Join(dir, "lock")
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	for {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	h := &Host{dir: dir, lock: lock}
	if err == nil {
		h.kept, err = readKept(dir)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock file %q: %w", name, err)
	}
	return h, nil
}

// Take routes addresses to this process's TUN. It matches fs.ErrExist if one of them is another's; then none is taken. A
// machine without IPv6 takes none of that, which matches errors.ErrUnsupported if there are no others.
func (f *Forwarding) Take(addrs ...netip.Addr) error {
	if !f.six && !slices.ContainsFunc(addrs, netip.Addr.Is4) {
		return fmt.Errorf("route: this machine has no IPv6: %w", errors.ErrUnsupported)
	}
	for i, a := range addrs {
		if a.Is6() && !f.six {
			continue
		}
		if err := netlink.RouteAdd(f.route(a)); err != nil {
			f.Release(addrs[:i]...)
			return fmt.Errorf("route: %w", err)
		}
	}
	return nil
}

// Release gives addresses back that were taken.
func (f *Forwarding) Release(addrs ...netip.Addr) {
	for _, a := range addrs {
		if a.Is4() || f.six {
			netlink.RouteDel(f.route(a)) // with the TUN it goes anyway
		}
	}
}

func (f *Forwarding) route(a netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: f.link.Attrs().Index, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC,
		Dst: ipNet(netip.PrefixFrom(a, a.BitLen()))}
}

// Forget has the kernel's connection tracking forget the flows of these addresses.
func (f *Forwarding) Forget(addrs []netip.Addr) error {
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

// Close undoes what no other process needs. The TUN is closed by then.
func (f *Forwarding) Close() error {
	_, err := RescueForwarding(f.dir)
	return err
}

// RescueForwarding undoes what gateways have left that do not run any more, and says in words what that was. While one runs
// it does nothing.
func RescueForwarding(stateDir string) (undone []string, err error) {
	if _, err := os.Stat(filepath.Join(stateDir, keptFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	h, err := lockForwarding(stateDir)
	if err != nil {
		return nil, err
	}
	defer h.lock.Close()
	return undoForwarding(h)
}

func undoForwarding(h *Host) (undone []string, err error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(links, func(l netlink.Link) bool { return isForwardTun(l.Attrs().Name) }) {
		return nil, nil
	}
	// Forwarding first: without it nothing gets past where the table was.
	undone, err = h.restoreSysctls(nil)
	if err != nil {
		return undone, err
	}
	c, err := newConn()
	if err != nil {
		return undone, fmt.Errorf("firewall: %w", err)
	}
	table := &nftables.Table{Name: forwardTable, Family: nftables.TableFamilyINet}
	c.AddTable(table) // so that there is one to delete
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		return undone, fmt.Errorf("firewall: %w", err)
	}
	return append(undone, "removed firewall table inet "+forwardTable), removeKept(h.dir)
}

// loadForwardTable puts the table in the place of the one that is there, in one transaction. <> depends on how the machine was.
//
//	table inet godwit-gateway {
//	  set flows4, flows6                           how many each session has
//	  set closed4, closed6                         interfaces that did not forward before we came
//	  chain input { input filter
//	    iifname godwit-gw*: drop                   sessions do not reach this machine
//	  }
//	  chain output { output filter
//	    oifname godwit-gw*: accept ICMP, answers; drop the rest   nor does it reach them, but for what the kernel has to tell
//	  }
//	  chain forward { forward filter
//	    <Probe, through the TUN and back>: accept
//	    iifname godwit-gw*, oifname godwit-gw*: drop               nor they one another
//	    iifname godwit-gw*, new; add to flows, over mostFlows of the source's: drop
//	    iifname godwit-gw*: accept tracked; drop the rest          which would leave under its inner address
//	    oifname godwit-gw*: accept answers; drop the rest
//	    <from closed to closed>: drop                              we have turned forwarding on for sessions alone
//	  }
//	  chain masquerade { postrouting nat
//	    iifname godwit-gw*: snat to <Source>, or else masquerade
//	  }
//	}
func loadForwardTable(cfg Forward, kept []sysctl) error {
	c, err := newConn()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: forwardTable, Family: nftables.TableFamilyINet}
	c.AddTable(table)
	c.DelTable(table)
	fw := &firewall{c: c, table: c.AddTable(table), sets: map[string]*nftables.Set{}}
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	const answers = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
	in, out := begins(expr.MetaKeyIIFNAME, forwardTun), begins(expr.MetaKeyOIFNAME, forwardTun)

	fw.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0, nftables.ChainPolicyAccept)
	fw.rule(in, drop)

	fw.chain("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, 0, nftables.ChainPolicyAccept)
	fw.rule(out, protocol(unix.IPPROTO_ICMP), accept)
	fw.rule(out, protocol(unix.IPPROTO_ICMPV6), accept)
	fw.rule(out, tracked(answers), accept)
	fw.rule(out, drop)

	fw.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0, nftables.ChainPolicyAccept)
	for _, p := range []netip.Prefix{cfg.Probe4, cfg.Probe6} {
		fw.rule(in, out, address(src, p), address(dst, p), accept)
	}
	fw.rule(in, out, drop)
	fw.flows(in, unix.NFPROTO_IPV4, "flows4", nftables.TypeIPAddr)
	fw.flows(in, unix.NFPROTO_IPV6, "flows6", nftables.TypeIP6Addr)
	fw.rule(in, tracked(answers|expr.CtStateBitNEW), accept)
	fw.rule(in, drop)
	fw.rule(out, tracked(answers), accept)
	fw.rule(out, drop)
	for _, v := range []struct {
		nf       byte
		all, set string
	}{{unix.NFPROTO_IPV4, forwarding4, "closed4"}, {unix.NFPROTO_IPV6, forwarding6, "closed6"}} {
		if names := closedBefore(kept, v.all); len(names) > 0 {
			fw.setInterfaces(v.set, names)
			fw.rule(family(v.nf), fw.within(expr.MetaKeyIIFNAME, v.set), fw.within(expr.MetaKeyOIFNAME, v.set), drop)
		}
	}

	fw.chain("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100, nftables.ChainPolicyAccept)
	for _, v := range []struct {
		nf     byte
		source netip.Addr
	}{{unix.NFPROTO_IPV4, cfg.Source4}, {unix.NFPROTO_IPV6, cfg.Source6}} {
		hide := match{&expr.Masq{}}
		if v.source.IsValid() {
			hide = match{&expr.Immediate{Register: 1, Data: v.source.AsSlice()},
				&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(v.nf), RegAddrMin: 1}}
		}
		fw.rule(in, family(v.nf), hide)
	}
	return fw.flush()
}

// flows bounds what each source has of the kernel's table of connections, which is everybody's.
func (fw *firewall) flows(in match, nf byte, name string, typ nftables.SetDatatype) {
	fw.add(&nftables.Set{Table: fw.table, Name: name, KeyType: typ, Dynamic: true, Size: 1 << 16})
	const over = 1 // NFT_CONNLIMIT_F_INV
	fw.rule(in, family(nf), tracked(expr.CtStateBitNEW), match{src.load(nf, 1),
		&expr.Dynset{SrcRegKey: 1, SetName: name, SetID: fw.sets[name].ID, Operation: unix.NFT_DYNSET_OP_ADD,
			Exprs: []expr.Any{&expr.Connlimit{Count: mostFlows, Flags: over}}}}, verdict(expr.VerdictDrop))
}

// closedBefore lists the interfaces that did not forward before we had the machine do it; none if it forwarded already.
func closedBefore(kept []sysctl, all string) (names []string) {
	for _, s := range kept {
		if s.Name == all && s.Before != "0" {
			return nil
		}
		name := path.Base(path.Dir(s.Name))
		if path.Dir(path.Dir(s.Name)) == path.Dir(path.Dir(all)) && path.Base(s.Name) == "forwarding" && s.Before == "0" &&
			!slices.Contains([]string{"all", "default", "lo"}, name) {
			names = append(names, name)
		}
	}
	return names
}

func (fw *firewall) setInterfaces(name string, interfaces []string) {
	fw.add(&nftables.Set{Table: fw.table, Name: name, KeyType: nftables.TypeIFName})
	var elements []nftables.SetElement
	for _, i := range interfaces {
		padded := make([]byte, unix.IFNAMSIZ)
		copy(padded, i)
		elements = append(elements, nftables.SetElement{Key: padded})
	}
	for some := range slices.Chunk(elements, 500) {
		fw.fail(fw.c.SetAddElements(fw.sets[name], some))
	}
}

// within holds of packets whose interface is in a set.
func (fw *firewall) within(key expr.MetaKey, set string) match {
	return match{&expr.Meta{Key: key, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: set, SetID: fw.sets[set].ID}}
}

// begins holds of packets of an interface whose name begins so.
func begins(key expr.MetaKey, name string) match {
	return match{&expr.Meta{Key: key, Register: 1}, equal([]byte(name))}
}

// tracked holds of packets whose connection is in one of these states.
func tracked(states uint32) match {
	return match{&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(states), Xor: native32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(0)}}
}
