package hostnet

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
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

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"
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

// kept is what it takes to undo our changes. Addresses, routes and resolvers go with the TUN.
type kept struct {
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

var (
	wfpProvider = wf.ProviderID{Data1: 0x676f6477, Data2: 0x6974, Data3: 0x4e54, Data4: [8]byte{0x87, 0x75, 0x70, 0x72, 0x6f, 0x76, 0x30, 0x31}}
	wfpSublayer = wf.SublayerID{Data1: 0x676f6477, Data2: 0x6974, Data3: 0x4e54, Data4: [8]byte{0x87, 0x75, 0x6c, 0x61, 0x79, 0x65, 0x30, 0x31}}
)

// What the platform says, of fwpmtypes.h.
const (
	fwpExists      = windows.Errno(0x80320009)
	fwpNoFilter    = windows.Errno(0x80320003)
	fwpNoProvider  = windows.Errno(0x80320005)
	fwpNoSublayer  = windows.Errno(0x80320007)
	heaviestWeight = 0xffff // of sublayers
)

func openPlatform() (*wf.Session, error) {
	// Not dynamic: what is added stays when this process dies, until the machine starts again.
	return wf.New(&wf.Options{Name: "Godwit", Description: "Nothing leaves beside the tunnel"})
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
	var links []onLink
	if d.LAN {
		var err error
		if links, err = localLinks(d.Tun); err != nil {
			return err
		}
	}
	app, err := wf.AppID(program)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	s, err := openPlatform()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.AddProvider(&wf.Provider{ID: wfpProvider, Name: "Godwit"}); err != nil && !errors.Is(err, fwpExists) {
		return err
	}
	layer := &wf.Sublayer{ID: wfpSublayer, Name: "Godwit", Provider: wfpProvider, Weight: heaviestWeight}
	if err := s.AddSublayer(layer); err != nil && !errors.Is(err, fwpExists) {
		return err
	}
	rules, old := wfpRules(d, links, luid, program), h.kept.Rules
	var ids []string
	for _, r := range rules {
		id := r.id()
		ids = append(ids, hex.EncodeToString(id[:]))
	}
	h.kept.Rules = append(slices.Clone(old), slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(old, id) })...)
	if err := h.save(); err != nil {
		return err
	}
	for _, r := range rules {
		if err := s.AddRule(ruleOf(r, app)); err != nil && !errors.Is(err, fwpExists) {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	gone := slices.DeleteFunc(slices.Clone(old), func(id string) bool { return slices.Contains(ids, id) })
	if err := deleteRules(s, gone); err != nil {
		return err
	}
	h.kept.Rules = ids
	return h.save()
}

func deleteRules(s *wf.Session, ids []string) error {
	for _, text := range ids {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 16 {
			continue
		}
		if err := s.DeleteRule(ruleID([16]byte(b))); err != nil && !errors.Is(err, fwpNoFilter) {
			return err
		}
	}
	return nil
}

func ruleID(b [16]byte) wf.RuleID { return *(*wf.RuleID)(unsafe.Pointer(&b)) }

// ruleOf is a rule as the platform is told it.
func ruleOf(r wfpRule, app string) *wf.Rule {
	layers := map[[2]bool]wf.LayerID{
		{false, false}: wf.LayerALEAuthConnectV4, {false, true}: wf.LayerALEAuthConnectV6,
		{true, false}: wf.LayerALEAuthRecvAcceptV4, {true, true}: wf.LayerALEAuthRecvAcceptV6,
	}
	out := &wf.Rule{ID: ruleID(r.id()), Name: "Godwit: " + r.Name, Layer: layers[[2]bool{r.In, r.Six}], Sublayer: wfpSublayer,
		Provider: wfpProvider, Weight: r.Weight, Action: wf.ActionBlock}
	if r.Permit {
		out.Action = wf.ActionPermit
	}
	when := func(field wf.FieldID, op wf.MatchType, value any) {
		out.Conditions = append(out.Conditions, &wf.Match{Field: field, Op: op, Value: value})
	}
	if r.Loopback {
		when(wf.FieldFlags, wf.MatchTypeFlagsAllSet, wf.ConditionFlagIsLoopback)
	}
	if r.LUID != 0 {
		when(wf.FieldIPLocalInterface, wf.MatchTypeEqual, r.LUID)
	}
	if r.Program != "" {
		when(wf.FieldALEAppID, wf.MatchTypeEqual, app)
	}
	if r.Proto != 0 {
		when(wf.FieldIPProtocol, wf.MatchTypeEqual, r.Proto)
	}
	if r.LocalPort != 0 {
		when(wf.FieldIPLocalPort, wf.MatchTypeEqual, r.LocalPort)
	}
	if r.RemotePort != 0 {
		when(wf.FieldIPRemotePort, wf.MatchTypeEqual, r.RemotePort)
	}
	if r.Remote.IsValid() {
		when(wf.FieldIPRemoteAddress, wf.MatchTypeEqual, r.Remote)
	}
	return out
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
				return ok && prefixOf(n).Addr() == p.Addr()
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

// ourSublayer reports whether the kill switch is there.
func ourSublayer(s *wf.Session) (bool, error) {
	layers, err := s.Sublayers()
	return slices.ContainsFunc(layers, func(l *wf.Sublayer) bool { return l.ID == wfpSublayer }), err
}

// undo makes everything as it was, and says what it found to do. It goes on after an error.
func (h *Host) undo() (undone []string, err error) {
	var errs []error
	if h.kept.Firewall {
		if run([]string{"netsh", "advfirewall", "firewall", "delete", "rule", "name=" + firewallRule}) == nil {
			undone = append(undone, "removed the rule "+firewallRule+" of Windows' firewall")
		}
	}
	s, err := openPlatform()
	if err != nil {
		return undone, errors.Join(append(errs, fmt.Errorf("kill switch: %w", err))...)
	}
	defer s.Close()
	if there, err := ourSublayer(s); err != nil || there {
		errs = append(errs, err, deleteRules(s, h.kept.Rules))
		// Those that the disk has forgotten.
		if rules, err := s.Rules(); err == nil {
			for _, r := range rules {
				if r.Sublayer == wfpSublayer {
					errs = append(errs, s.DeleteRule(r.ID))
				}
			}
		}
		if err := s.DeleteSublayer(wfpSublayer); err != nil && !errors.Is(err, fwpNoSublayer) {
			errs = append(errs, err)
		}
		if err := s.DeleteProvider(wfpProvider); err != nil && !errors.Is(err, fwpNoProvider) {
			errs = append(errs, err)
		}
		undone = append(undone, "removed the kill switch: Godwit's rules of the Windows Filtering Platform")
	}
	if err := errors.Join(errs...); err != nil {
		return undone, err // what is kept is still needed
	}
	h.kept = kept{}
	return undone, removeKept(h.dir)
}

// Captured reports whether this machine's network is Godwit's, and by which process: 0 if that one has died, or if this user
// may not know.
func Captured(stateDir string) (captured bool, pid int) {
	s, err := openPlatform()
	if err != nil {
		return false, 0
	}
	defer s.Close()
	if there, err := ourSublayer(s); err != nil || !there {
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
