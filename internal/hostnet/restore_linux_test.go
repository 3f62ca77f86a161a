package hostnet

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/nft"
)

// everything is all that hostnet has its hands in.
var everything = Desired{Tun: "tun7", Addrs: []netip.Prefix{tun4, tun6}, MTU: 1400, DNS: []netip.Addr{tun4.Addr()}, LAN: true,
	Router: true, Direct: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("3fff:5::/32")}}

// snapshot is the machine's network, but for a TUN.
func (w *world) snapshot(t *testing.T) (lines []string) {
	t.Helper()
	must(t, w.client.Do(func() error {
		for _, family := range families {
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Family == unix.AF_INET6 && r.Dst != nil && r.Dst.IP.IsMulticast() && r.Priority == 256 {
					continue // of an interface that comes and goes with the test
				}
				lines = append(lines, fmt.Sprintf("route %+v", r))
			}
			rules, err := netlink.RuleList(family)
			if err != nil {
				return err
			}
			for _, r := range rules {
				lines = append(lines, fmt.Sprintf("rule %v %+v", family, ruleKey(&r)))
			}
		}
		settings, err := filepath.Glob("/proc/sys/net/ipv[46]/conf/*/*")
		if err != nil {
			return err
		}
		for _, path := range settings {
			if value, err := os.ReadFile(path); err == nil && filepath.Base(filepath.Dir(path)) != "tun7" {
				lines = append(lines, fmt.Sprintf("sysctl %s=%s", path, value))
			}
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		if err != nil {
			return err
		}
		for _, table := range tables {
			lines = append(lines, fmt.Sprintf("table %+v", *table))
		}
		if nft, err := exec.LookPath("nft"); err == nil {
			out, err := exec.Command(nft, "list", "ruleset").CombinedOutput()
			if err != nil {
				return fmt.Errorf("nft: %w: %s", err, out)
			}
			lines = append(lines, strings.Split(string(out), "\n")...)
		}
		files, err := os.ReadDir(w.etc)
		if err != nil {
			return err
		}
		for _, f := range files {
			r, err := readResolv(filepath.Join(w.etc, f.Name()))
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("file %s %+v", f.Name(), r))
		}
		return nil
	}))
	return lines
}

// settled is a snapshot with the routes that the kernel adds a little after IPv6's addresses.
func (w *world) settled(t *testing.T) []string {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
		lines := w.snapshot(t)
		global := func(l string) bool { return strings.Contains(l, client6.Addr().String()+"/128") }
		link := func(l string) bool { return strings.Contains(l, "Dst: fe80:") && strings.Contains(l, "/128") }
		if slices.ContainsFunc(lines, global) && slices.ContainsFunc(lines, link) {
			return lines
		}
	}
	t.Fatal("the client does not get its addresses")
	return nil
}

func same(t *testing.T, what string, before, after []string) {
	t.Helper()
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("%s: gone: %s", what, l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("%s: new: %s", what, l)
		}
	}
}

// TestRestored shows that everything is as before after Close, after a rescue of a killed process, and after another
// process took over from one that was killed; and that it is not while it is set.
func TestRestored(t *testing.T) {
	for _, end := range []string{"close", "rescue", "take over"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(t)
			// What others have set stays theirs.
			w.ip(t, func(l netlink.Link) error {
				rule := netlink.NewRule()
				rule.Priority, rule.Table, rule.Mark = ruleAll, 77, 7
				table := &nftables.Table{Name: "theirs", Family: nftables.TableFamilyINet}
				c, err := nftables.New()
				if err != nil {
					return err
				}
				c.AddTable(table)
				chain := c.AddChain(&nftables.Chain{Name: "output", Table: table, Type: nftables.ChainTypeFilter,
					Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter})
				c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: slices.Concat(nft.Protocol(unix.IPPROTO_SCTP), nft.Drop)})
				if err := c.Flush(); err != nil {
					return err
				}
				if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Table: 77, Dst: netipx.PrefixIPNet(netip.MustParsePrefix("0.0.0.0/0")),
					Gw: router4.Addr().AsSlice()}); err != nil {
					return err
				}
				return netlink.RuleAdd(rule)
			})
			for key, value := range map[string]string{"net.ipv6.conf.eth0.accept_ra": "1", "net.ipv4.conf.eth0.forwarding": "1",
				"net.ipv4.conf.all.accept_redirects": "1"} {
				must(t, w.client.Sysctl(key, value))
			}
			before := w.settled(t)
			h := w.open(t)
			u := newTun(t, w.client, "tun7")
			w.set(t, h, everything)
			w.set(t, h, everything)
			set := w.snapshot(t)
			if len(set) < len(before)+30 {
				t.Error("the snapshot does not show what was set")
			}
			w.set(t, h, carrying)
			w.set(t, h, everything)
			same(t, "set again", set, w.snapshot(t))
			fi, err := os.Stat(filepath.Join(w.state, "before.json"))
			must(t, err)
			if fi.Mode().Perm() != 0o600 {
				t.Errorf("the state has mode %v", fi.Mode())
			}
			switch end {
			case "close":
				must(t, w.client.Do(h.Close), w.client.Do(h.Close))
				u.close()
			case "rescue":
				h.lock.Close()
				u.close()
				must(t, w.client.Do(func() error {
					undone, err := rescue(w.state, w.etc)
					if len(undone) != 6 {
						t.Errorf("undone: %q", undone)
					}
					return err
				}))
			case "take over":
				h.lock.Close()
				u.close()
				h = w.open(t)
				w.set(t, h, Desired{})
				must(t, w.client.Do(h.Close))
			}
			same(t, end, before, w.snapshot(t))
			must(t, w.client.Do(func() error {
				undone, err := rescue(w.state, w.etc)
				if len(undone) != 0 {
					t.Errorf("a second rescue: %q", undone)
				}
				return err
			}))
			if _, err := os.Stat(filepath.Join(w.state, "before.json")); !os.IsNotExist(err) {
				t.Errorf("the state is still there: %v", err)
			}
		})
	}
}

// TestHeld shows that one process at a time has the network, and that others learn which.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	held := fmt.Sprintf("process %d holds this machine's network", os.Getpid())
	must(t, w.client.Do(func() error {
		if _, err := open(w.state, w.etc); err == nil || err.Error() != held {
			t.Errorf("a second Open: %v, want %s", err, held)
		}
		if _, err := rescue(w.state, w.etc); err == nil || err.Error() != held {
			t.Errorf("rescue meanwhile: %v, want %s", err, held)
		}
		return h.Close()
	}))
	if err := w.client.Do(func() error { return h.Set(Desired{}) }); err != fs.ErrClosed {
		t.Errorf("Set after Close: %v", err)
	}
	must(t, w.client.Do(w.open(t).Close))
}

// TestDamagedState shows that what cannot be read stops Open, and no rescue.
func TestDamagedState(t *testing.T) {
	w := newWorld(t)
	h := w.open(t)
	w.set(t, h, Desired{})
	h.lock.Close()
	must(t, os.WriteFile(filepath.Join(w.state, "before.json"), []byte("{"), 0o600))
	must(t, w.client.Do(func() error {
		if _, err := open(w.state, w.etc); err == nil || !strings.Contains(err.Error(), "godwit rescue") {
			t.Errorf("Open: %v", err)
		}
		undone, err := rescue(w.state, w.etc)
		if len(undone) != 5 || !strings.Contains(undone[0], "could not be read") {
			t.Errorf("undone: %q", undone)
		}
		return err
	}))
	if a := attempts("eth0")[:1]; !slices.Contains(w.try(t, a), a[0].seen) {
		t.Error("the network is still blocked")
	}
}
