package hostnet

import (
	"bytes"
	"context"
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

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/kept"
	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
	"github.com/godwit-vpn/godwit/internal/hostnet/pf"
)

// Dir is where the state lies by which a dead process's changes are undone. There is one network to a machine, so there
// is one place.
const Dir = "/var/db/godwit/hostnet"

const (
	// pfAnchor is where macOS's own rules let others be.
	pfAnchor     = "com.apple/godwit"
	scutilRemove = "remove " + scutilKey + "\nquit\n"
)

// Protect binds a socket to the interface of the machine's default route, as that is now. It is a net.ListenConfig's or Dialer's
// Control. What is in this machine needs no way out.
func Protect(network, address string, c syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Unmap().IsLoopback() {
		return nil
	}
	six := strings.HasSuffix(network, "6")
	routes, err := kernelRoutes()
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	index := physical(routes, six)
	if index == 0 {
		return unix.ENETUNREACH
	}
	bind := func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BOUND_IF, index) }
	if six {
		bind = func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_BOUND_IF, index) }
	}
	if e := c.Control(bind); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("bind the socket to interface %d: %w", index, err)
	}
	return nil
}

// system is what a Host knows of macOS; guarded by its mu.
type system struct {
	flushed bool // connections from before have no say any more
}

func thisSystem() system { return system{} }

// changes is what it takes to undo our changes. The rest has names of ours, or goes with the TUN.
type changes struct {
	Tun string `json:"tun,omitempty"`
	// Token is what pf is asked to stay on by.
	Token string `json:"pf_token,omitempty"`
}

func allowed() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the machine's network: %w: it takes root", fs.ErrPermission)
	}
	return nil
}

// set makes the network what is desired. The firewall is first, so whatever fails after it, nothing leaks.
func (h *Host) set(d Desired) error {
	switch {
	case d.Router:
		return fmt.Errorf("forwarding for others: not supported on macOS: %w", errors.ErrUnsupported)
	case len(d.Direct) > 0:
		return fmt.Errorf("direct networks: not supported on macOS: %w", errors.ErrUnsupported)
	}
	if err := h.loadFirewall(d); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	h.kept.Tun = d.Tun
	if err := h.save(); err != nil {
		return err
	}
	if d.Tun != "" {
		if err := setTun(d); err != nil {
			return fmt.Errorf("interface %s: %w", d.Tun, err)
		}
		if err := setRoutes(d); err != nil {
			return fmt.Errorf("routes: %w", err)
		}
	}
	h.dns = d.DNS
	if err := setDNS(d.DNS); err != nil {
		return fmt.Errorf("%w: %w", ErrDNS, err)
	}
	return nil
}

// loadFirewall puts our rules in the place of those that are there, at once, and sees to it that they are asked.
func (h *Host) loadFirewall(d Desired) error {
	if err := unix.Setegid(pf.Group); err != nil { // of all threads
		return fmt.Errorf("group %d: %w", pf.Group, err)
	}
	rules := pf.Desired{Tun: d.Tun, Addrs: d.Addrs, LAN: d.LAN}
	if d.LAN {
		var err error
		if rules.Links, err = lan.Links(d.Tun); err != nil {
			return err
		}
	}
	if _, err := run(pf.Rules(rules), "pfctl", "-a", pfAnchor, "-f", "-"); err != nil {
		return err
	}
	main, err := run("", "pfctl", "-s", "rules")
	if err != nil {
		return err
	}
	if !pf.HasAnchor(main) {
		return errors.New(`pf's main rules have no anchor "com.apple/*", so that ours are not asked: put it back into /etc/pf.conf, ` +
			`as macOS comes with it, and then 'sudo pfctl -f /etc/pf.conf'`)
	}
	if references, err := run("", "pfctl", "-s", "References"); err != nil {
		return err
	} else if h.kept.Token == "" || !strings.Contains(references, h.kept.Token) {
		text, err := run("", "pfctl", "-E")
		if err != nil {
			return err
		}
		h.kept.Token = pf.Token(text)
		if err := h.save(); err != nil {
			return err
		}
	}
	if !h.flushed { // somebody else's rules may have let out what there is a state of
		if _, err := run("", "pfctl", "-F", "states"); err != nil {
			return err
		}
		h.flushed = true
	}
	return nil
}

// blocked reads the counters; fs.ErrNotExist says that there is no firewall of ours.
func blocked() (packets, bytes uint64, err error) {
	text, err := run("", "pfctl", "-a", pfAnchor, "-s", "labels")
	if err != nil {
		return 0, 0, err
	}
	packets, bytes, found := pf.Blocked(text)
	if !found {
		return 0, 0, fmt.Errorf("firewall: counters: %w", fs.ErrNotExist)
	}
	return packets, bytes, nil
}

// setTun gives the TUN its addresses and its MTU, unless it has them: given again, they would take routes away for a moment.
func setTun(d Desired) error {
	tun, err := net.InterfaceByName(d.Tun)
	if err != nil {
		return err
	}
	addrs, err := tun.Addrs()
	if err != nil {
		return err
	}
	lacks := func(p netip.Prefix) bool {
		return !slices.ContainsFunc(addrs, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(p.Addr().AsSlice())
		})
	}
	if tun.Flags&net.FlagUp != 0 && (d.MTU == 0 || tun.MTU == d.MTU) && !slices.ContainsFunc(d.Addrs, lacks) {
		return nil
	}
	for _, command := range macInterface(d) {
		if _, err := run("", command...); err != nil {
			return err
		}
	}
	return nil
}

// setRoutes has everything go by the TUN.
func setRoutes(d Desired) error {
	tun, err := net.InterfaceByName(d.Tun)
	if err != nil {
		return err
	}
	missing := func() ([]netip.Prefix, error) {
		routes, err := kernelRoutes()
		have := halvesBy(routes, tun.Index)
		return slices.DeleteFunc(wanted(d), func(p netip.Prefix) bool { return slices.Contains(have, p) }), err
	}
	lack, err := missing()
	if err != nil {
		return err
	}
	var wrong error
	for _, p := range lack {
		if _, err := run("", macRoute("add", p, d.Tun)...); err != nil {
			wrong = err
		}
	}
	// The command's word is not enough: it has failed quietly in some versions.
	if lack, err = missing(); err == nil && len(lack) > 0 {
		err = errors.Join(fmt.Errorf("%v was not added", lack), wrong)
	}
	return err
}

// setDNS has programs ask these resolvers, or the network's again.
func setDNS(dns []netip.Addr) error {
	shown, err := run("show "+scutilKey+"\nquit\n", "scutil")
	if err != nil {
		return err
	}
	if scutilHas(shown, dns) {
		return nil
	}
	script := scutilRemove
	if len(dns) > 0 {
		script = scutilSet(dns)
	}
	if _, err := run(script, "scutil"); err != nil {
		return err
	}
	// What the others have said.
	_, _ = run("", "dscacheutil", "-flushcache")
	_, _ = run("", "killall", "-HUP", "mDNSResponder")
	if shown, err = run("show "+scutilKey+"\nquit\n", "scutil"); err == nil && !scutilHas(shown, dns) {
		err = fmt.Errorf("scutil: %s", strings.TrimSpace(shown))
	}
	return err
}

// Resolvers are those that the machine's network has named, for whoever looks names up outside of the tunnel.
func (h *Host) Resolvers() []netip.Addr {
	h.mu.Lock()
	ours := h.dns
	h.mu.Unlock()
	routes, err := kernelRoutes()
	if err != nil {
		return nil
	}
	name := ""
	if i, err := net.InterfaceByIndex(physical(routes, false)); err == nil {
		name = i.Name
	}
	shown, err := run("", "scutil", "--dns")
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(scutilResolvers(shown, name), func(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(ours, a) })
}

// undo makes everything as it was, and says what it found to do. It goes on after an error.
func (h *Host) undo() (undone []string, err error) {
	var errs []error
	if shown, err := run("show "+scutilKey+"\nquit\n", "scutil"); err != nil {
		errs = append(errs, err)
	} else if !scutilHas(shown, nil) {
		errs = append(errs, setDNS(nil))
		undone = append(undone, "removed the tunnel's resolver: "+scutilKey)
	}
	if tun, err := net.InterfaceByName(h.kept.Tun); err == nil { // its addresses go with it
		routes, err := kernelRoutes()
		errs = append(errs, err)
		for _, p := range halvesBy(routes, tun.Index) {
			_, err := run("", macRoute("delete", p, tun.Name)...)
			errs = append(errs, err)
			undone = append(undone, fmt.Sprintf("removed the route to %v by %s", p, tun.Name))
		}
	}
	if rules, err := run("", "pfctl", "-a", pfAnchor, "-s", "rules"); err != nil {
		errs = append(errs, err)
	} else if strings.Contains(rules, "block ") {
		_, err := run("", "pfctl", "-a", pfAnchor, "-F", "rules")
		errs = append(errs, err)
		undone = append(undone, "removed the kill switch: pf anchor "+pfAnchor)
	}
	if h.kept.Token != "" {
		_, _ = run("", "pfctl", "-X", h.kept.Token) // none since the machine was started
	}
	if err := errors.Join(errs...); err != nil {
		return undone, err // what is kept is still needed
	}
	h.kept = changes{}
	return undone, kept.Remove(h.dir)
}

// Captured reports whether this machine's network is Godwit's, and by which process: 0 if that one has died. Only root may
// know: for others it is not.
func Captured(stateDir string) (captured bool, pid int) {
	if _, _, err := blocked(); err != nil {
		return false, 0
	}
	return true, holder(stateDir)
}

// tools are macOS's own, wherever PATH leads to.
var tools = map[string]string{"pfctl": "/sbin", "ifconfig": "/sbin", "route": "/sbin", "scutil": "/usr/sbin",
	"dscacheutil": "/usr/bin", "killall": "/usr/bin"}

// run runs one of the system's tools, and returns all that it says.
func run(stdin string, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(tools[command[0]], command[0]), command[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}
