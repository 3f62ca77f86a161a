package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/proxy"

	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// More hosts inside, for those who have several.
var (
	laptopAddr = netip.MustParseAddr("192.0.2.20")
	roamedAddr = netip.MustParseAddr("192.0.2.21") // the laptop's, in another network
	officeAddr = netip.MustParseAddr("192.0.2.30")
	// insideRouter is whom everyone inside sends to what is elsewhere.
	insideRouter = netip.MustParseAddr("198.18.0.1")
)

// officePlan is how much each transfer is, and when what happens to them.
type officePlan struct {
	bytes       int64
	blow, blows time.Duration // the first, and then every so often
	roam        time.Duration // the laptop goes
	silence     time.Duration // without a byte a transfer has broken; zero is 30 s
}

// away is how long the laptop has no network when it changes it.
const away = time.Second

// noSites is what an office would expect and does not get.
const noSites = "there is no site-to-site yet: streams of programs on these machines are carried, and servers behind them are not reached"

// A member is one of a firm's machines: its client, with a device key of its own, and what it carries.
type member struct {
	host     string
	up, down bool

	client *peer.Process
	fetch  traffic.Fetch
	downed traffic.Result
	upped  uploaded
}

// office has two sites and a laptop carry long transfers across at once, while the connection that carries the most is
// struck again and again, and the laptop goes to another network.
func (c *country) office(ctx context.Context, p peer.Peer, plan officePlan) (r run) {
	members := []*member{{host: "office", down: true}, {host: "home", up: true}, {host: "laptop", up: true, down: true}}
	result := func(v survival.Verdict, format string, args ...any) run {
		r := run{verdict: v, note: fmt.Sprintf(format, args...)}
		r.rules, r.first = c.firedOn(netip.Addr{}, append(c.gateways[:len(c.gateways):len(c.gateways)], bannedAddr))
		return r
	}
	sink, err := c.host("banned").Listen(netip.AddrPortFrom(bannedAddr, sinkPort))
	if err != nil {
		return result(survival.None, "%v", err)
	}
	open, closed := context.WithCancel(ctx)
	defer closed()
	c.run("the sink", func() error { return swallow(open, sink, plan.bytes) })
	if err := errors.Join(c.host("home").SetNames(), c.host("home").SetResolvers(dnsAddr),
		c.host("laptop").RemoveAddr("eth0", host(roamedAddr))); err != nil {
		return result(survival.None, "%v", err)
	}
	gateway, err := p.Gateway(ctx, c.peerSite())
	if err != nil {
		return result(survival.None, "its gateway does not start: %v", err)
	}
	defer gateway.Stop()
	for _, m := range members {
		if why := c.join(ctx, p, m); why != "" {
			return result(survival.None, "%s", why)
		}
		defer m.client.Stop()
		if plan.silence > 0 {
			m.fetch.Silence = plan.silence
		}
	}
	// Everybody is across before the work begins.
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { errs[i] = c.across(ctx, m) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return result(survival.Blocked, "before the transfers: %s", oneLine(err))
	}
	begin := time.Now()
	var roamErr error
	all.Go(func() {
		if sleep(ctx, plan.roam) == nil {
			roamErr = roam(ctx, c.host("laptop"))
		}
	})
	struck, stop := context.WithCancel(ctx)
	defer stop()
	var blows sync.WaitGroup
	if c.firewall.Strike != nil {
		blows.Go(func() {
			for wait := plan.blow; sleep(struck, wait) == nil; wait = plan.blows {
				c.firewall.Strike.Arm()
			}
		})
	}
	for _, m := range members {
		c.carry(ctx, &all, m, plan.bytes)
	}
	all.Wait()
	took := time.Since(begin)
	stop()
	blows.Wait()
	if roamErr != nil {
		return result(survival.None, "the laptop could not move: %v", roamErr)
	}
	r = result(survival.Passes, "")
	if c.firewall.Strike != nil {
		r.strikes = c.firewall.Strike.Struck()
	}
	return c.judge(r, members, plan, took)
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// judge says what became of the transfers.
func (c *country) judge(r run, members []*member, plan officePlan, took time.Duration) run {
	var said []string
	early := false
	for _, m := range members {
		if m.down {
			if m.downed.Stall > r.fetch.Stall || r.fetch.Took == 0 {
				r.fetch = m.downed
			}
			early = early || m.host == "laptop" && m.downed.Right && m.downed.Took < plan.roam
			said = append(said, outcome(m.host+" down", m.downed.Right, m.downed.Err, m.downed.Stall))
		}
		if m.up {
			said = append(said, outcome(m.host+" up", m.upped.right, m.upped.err, m.upped.stall))
		}
		if m.down && !m.downed.Right || m.up && !m.upped.right {
			r.verdict = survival.Blocked
		}
		if died := m.client.Died(); died != nil {
			said = append(said, m.host+": "+died.Error())
		}
	}
	r.note = fmt.Sprintf("%s; the laptop moved after %v, %d strikes in %v; %s", strings.Join(said, ", "), plan.roam, r.strikes,
		took.Round(100*time.Millisecond), noSites)
	if early && r.verdict == survival.Passes {
		r.verdict, r.note = survival.None, "it was over before the laptop moved"
	}
	return r
}

func outcome(what string, right bool, err string, stall time.Duration) string {
	if !right {
		return what + " broke: " + err
	}
	return fmt.Sprintf("%s whole, stall %v", what, stall.Round(10*time.Millisecond))
}

// join starts a member's client; why is not empty if there can be none.
func (c *country) join(ctx context.Context, p peer.Peer, m *member) (why string) {
	s := c.peerSite()
	s.Client, s.Dir = c.host(m.host), filepath.Join(c.dir, m.host)
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		return err.Error()
	}
	// What the gateway's end left for its clients: keys, and what they should know of it.
	if err := copyFiles(c.dir, s.Dir); err != nil {
		return err.Error()
	}
	m.fetch = traffic.Fetch{Dial: s.Client.DialContext, Proxy: p.Proxy(), Silence: 30 * time.Second}
	if m.fetch.Proxy == "" {
		m.fetch.Addr = bannedAddr
	}
	var err error
	if m.client, err = p.Client(ctx, s); err != nil {
		return fmt.Sprintf("its client at the %s does not start: %v", m.host, err)
	}
	if m.client != nil && m.fetch.Proxy == "" && !peer.TakesNames(p) {
		m.client.Stop()
		return "its gateway has a place for one client in the lab"
	}
	return ""
}

// copyFiles copies the files of a directory, and none of those below it.
func copyFiles(from, to string) error {
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// across waits until a member can open a page.
func (c *country) across(ctx context.Context, m *member) error {
	begin := time.Now()
	for {
		r := c.visit(ctx, m.fetch)
		if r.OK() {
			return nil
		}
		if time.Since(begin) > firstVisit || sleep(ctx, time.Second) != nil {
			return fmt.Errorf("%s: %s", m.host, r.Err)
		}
	}
}

// carry starts a member's transfers.
func (c *country) carry(ctx context.Context, all *sync.WaitGroup, m *member, n int64) {
	seed := uint64(len(m.host))
	if m.down {
		all.Go(func() {
			f := m.fetch
			f.URL, f.Bytes, f.Seed, f.Timeout = fmt.Sprintf("https://%s/file/%d?seed=%d", banned, n, seed), n, seed, holdLimit
			m.downed = f.Do(ctx)
		})
	}
	if m.up {
		all.Go(func() { m.upped = upload(ctx, m.fetch, n) })
	}
}

// roam takes the laptop out of its network and into another: connections from its old address have no way back.
func roam(ctx context.Context, laptop *netns.Host) error {
	if err := laptop.RemoveAddr("eth0", host(laptopAddr)); err != nil {
		return err
	}
	if err := sleep(ctx, away); err != nil {
		return err
	}
	if err := laptop.AddAddr("eth0", host(roamedAddr), ""); err != nil {
		return err
	}
	// With its last address a cable loses all its routes.
	if err := laptop.AddRoute(netns.Route{To: host(insideRouter), Dev: "eth0"}); err != nil {
		return err
	}
	return laptop.AddRoute(netns.Route{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Dev: "eth0", Via: insideRouter, Source: roamedAddr})
}

// What is sent out goes to a port of the banned site's that takes it in and says whether it was right.
const (
	sinkPort = 8025
	sinkSeed = 6
	sunk     = "right\n"
)

// swallow takes in uploads until ctx ends.
func swallow(ctx context.Context, l net.Listener, n int64) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })() // its other end may be gone without a word
			got, want, expect := make([]byte, 64<<10), traffic.Body(sinkSeed, n), make([]byte, 64<<10)
			for left := n; left > 0; {
				k, err := conn.Read(got[:min(left, int64(len(got)))])
				if err != nil {
					return
				}
				if _, err := io.ReadFull(want, expect[:k]); err != nil || !bytes.Equal(got[:k], expect[:k]) {
					_, _ = io.WriteString(conn, "wrong\n")
					return
				}
				left -= int64(k)
			}
			_, _ = io.WriteString(conn, sunk)
		})
	}
}

// uploaded is how an upload went. A stall is the longest that a piece could not be handed over.
type uploaded struct {
	right bool
	err   string
	stall time.Duration
}

// upload sends n bytes the way that a Fetch goes.
func upload(ctx context.Context, f traffic.Fetch, n int64) (u uploaded) {
	ctx, cancel := context.WithTimeout(ctx, holdLimit)
	defer cancel()
	conn, err := dialBanned(ctx, f)
	if err != nil {
		u.err = err.Error()
		return u
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	silence := time.AfterFunc(f.Silence, func() { conn.Close() })
	defer silence.Stop()
	body, piece := traffic.Body(sinkSeed, n), make([]byte, 64<<10)
	for {
		k, err := io.ReadFull(body, piece)
		if k == 0 {
			break
		}
		begin := time.Now()
		if _, err := conn.Write(piece[:k]); err != nil {
			u.err = err.Error()
			return u
		}
		u.stall = max(u.stall, time.Since(begin))
		silence.Reset(f.Silence)
		if err != nil {
			break
		}
	}
	answer, err := io.ReadAll(io.LimitReader(conn, int64(len(sunk))))
	if u.right = string(answer) == sunk; !u.right {
		u.err = fmt.Sprintf("the other end says %q: %v", strings.TrimSpace(string(answer)), err)
	}
	return u
}

func dialBanned(ctx context.Context, f traffic.Fetch) (net.Conn, error) {
	if f.Proxy == "" {
		return f.Dial(ctx, "tcp", netip.AddrPortFrom(f.Addr, sinkPort).String())
	}
	d, err := proxy.SOCKS5("tcp", f.Proxy, nil, hostDialer(f.Dial))
	if err != nil {
		return nil, err
	}
	return d.(proxy.ContextDialer).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", banned, sinkPort))
}

// hostDialer is a Dialer as package proxy wants it.
type hostDialer traffic.Dialer

func (d hostDialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d hostDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}
