package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/bench/internal/load"
	"github.com/godwit-vpn/godwit/bench/internal/result"
	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/peer"
)

// measurement is one peer under one condition.
type measurement struct {
	cond Condition
	peer peer.Peer
	kind peer.Entry // what it is one of
	seed uint64
	dir  string
	res  *result.Measurement

	net              *topology.Net
	client, gateway  *peer.Process
	say              func(format string, args ...any)
	sampledSocketCCs bool
}

// run does everything and never fails as a whole: what went wrong is in the result.
func (m *measurement) run(ctx context.Context) {
	begin := time.Now()
	m.res.Started = begin
	m.res.Metrics, m.res.Errors = make(map[string]float64), make(map[string]string)
	m.res.Timelines = make(map[string][]float64)
	if err := m.all(ctx); err != nil {
		m.res.Errors["peer"] = err.Error()
		m.say("failed: %v", err)
	}
	m.res.Seconds = time.Since(begin).Seconds()
}

func (m *measurement) all(ctx context.Context) (err error) {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	wiring := m.cond.Net
	wiring.Relay = m.kind.Needs.Relay
	if m.net, err = topology.New(wiring); err != nil {
		return err
	}
	defer m.net.Close()

	if m.cond.Link != nil {
		link, err := StartLink(m.net, linkmodel.Symmetric(*m.cond.Link, m.seed))
		if err != nil {
			return err
		}
		defer func() {
			if m.res.Link, err = link.Stop(); err != nil {
				m.res.Errors["link"] = err.Error()
			}
		}()
	}
	if err := m.openSite(); err != nil {
		return err
	}
	control := filepath.Join(m.dir, "target.sock")
	target, err := startHelper(m.net.Target, "target", "--control", control, topology.TargetAddr.String())
	if err != nil {
		return err
	}
	defer target.stop()

	if err := m.truth(ctx); err != nil {
		return err
	}
	cfg := load.Config{Proxy: m.peer.Proxy(), Target: targetName, Control: control,
		Processes: load.Processes{}}
	site := m.site()
	defer func() {
		m.client.Stop()
		m.gateway.Stop()
	}()
	if m.gateway, err = m.peer.Gateway(ctx, site); err != nil {
		return err
	}
	if err := m.start(ctx, site, cfg, "start"); err != nil {
		return err
	}
	m.memory("idle")
	for role, p := range map[string]*peer.Process{"client": m.client, "gateway": m.gateway} {
		if p != nil {
			cfg.Processes[role] = p.PID()
		}
	}
	for _, o := range m.gateway.Others() {
		if o.Role != "resolver" { // that is the network's
			cfg.Processes[o.Role] = o.PID()
		}
	}
	for _, t := range m.cond.Tests {
		if err := m.test(ctx, cfg, t); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m.res.Errors[t.ID] = err.Error()
			m.say("%s failed: %v", t.ID, err)
		}
		if err := errors.Join(m.client.Died(), m.gateway.Died()); err != nil {
			return err
		}
	}
	m.memory("after")
	if !m.cond.Restart || m.client == nil {
		return nil
	}
	m.client.Stop()
	cfg.Processes = nil
	if err := m.start(ctx, site, cfg, "restart"); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.res.Errors["restart"] = err.Error()
	}
	m.say("again %.0f ms", m.res.Metrics["restart.first_byte_ms"])
	return nil
}

// truth records what the path really is, before any peer runs on it.
func (m *measurement) truth(ctx context.Context) error {
	probed, err := m.net.CheckCC()
	if err != nil {
		return err
	}
	m.res.CC = &result.CC{Asked: m.cond.Net.CC, By: m.net.CCBy, Probed: probed, Sockets: map[string]map[string]int{}}
	if m.cond.Link == nil {
		return nil
	}
	rtts, err := m.net.Client.Ping(ctx, topology.GatewayAddr, 10, 20*time.Millisecond, 2*m.cond.Link.Delay+200*time.Millisecond)
	for _, d := range rtts {
		m.res.PingMS = append(m.res.PingMS, float64(d.Microseconds())/1000)
	}
	return err
}

// site is where the peer is to run.
func (m *measurement) site() *peer.Site {
	s := &peer.Site{
		Client: m.net.Client, Gateway: m.net.Gateway, GatewayAddr: topology.GatewayAddr, Targets: topology.TargetNet,
		Cover: netip.AddrPortFrom(topology.TargetAddr, load.PortHTTPS), CoverName: targetName,
		CC: m.net.RouteCC(), Dir: m.dir, Resolver: m.kind.Needs.Resolver,
	}
	if m.net.Relay != nil {
		s.Relays = []peer.Relay{{Host: m.net.Relay, Addr: topology.RelayAddr}}
	}
	if m.cond.KeepCC {
		s.Wrap = []string{self, "keepcc"}
	}
	return s
}

// start starts the client and measures until the first byte has come back; it is called what the metric is of.
func (m *measurement) start(ctx context.Context, site *peer.Site, cfg load.Config, what string) (err error) {
	// The one who knocks is there first, so that only the client's start is measured.
	type answer struct {
		res *load.Result
		err error
	}
	first := make(chan answer, 1)
	knocking, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		res, err := m.load(knocking, cfg, load.Spec{Kind: load.Ready, Seconds: startLimit})
		first <- answer{res, err}
	}()
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	if m.res.Peer == "direct" {
		err = m.net.Direct()
	} else {
		m.client, err = m.peer.Client(ctx, site)
	}
	if err != nil {
		cancel()
		<-first
		return err
	}
	a := <-first
	if a.err != nil {
		return errors.Join(a.err, m.client.Died(), m.gateway.Died(), m.words())
	}
	m.res.Metrics[what+".first_byte_ms"] = (a.res.Metrics["ready_unix_ns"] - float64(begin.UnixNano())) / 1e6
	return nil
}

// startLimit is how many seconds a client may take to its first byte; what goes by DNS takes its time.
const startLimit = 60

// words are what the peer printed, for the report of a failure.
func (m *measurement) words() error {
	var said []error
	for _, p := range []*peer.Process{m.client, m.gateway} {
		if p != nil && p.LastWords() != "" {
			said = append(said, fmt.Errorf("%s said: %s", p.Role, p.LastWords()))
		}
	}
	return errors.Join(said...)
}

func (m *measurement) memory(when string) {
	for role, p := range map[string]*peer.Process{"client": m.client, "gateway": m.gateway} {
		if p == nil {
			continue
		}
		if n, err := load.GroupRSS(p.PID()); err == nil {
			m.res.Metrics["rss."+role+"_"+when+"_mib"] = float64(n) / (1 << 20)
		}
	}
}

func (m *measurement) test(ctx context.Context, cfg load.Config, t Test) error {
	if t.Spec.Kind == load.Down && !m.sampledSocketCCs {
		m.sampledSocketCCs = true
		half := time.Duration((t.Spec.Warmup + t.Spec.Seconds/2) * float64(time.Second))
		sampled := make(chan struct{})
		stop := time.AfterFunc(half, func() {
			defer close(sampled)
			for _, h := range []*netns.Host{m.net.Client, m.net.Gateway, m.net.Target, m.net.Relay} {
				if h == nil {
					continue
				}
				if found, err := topology.SocketCCs(h); err == nil {
					m.res.CC.Sockets[h.Name] = found
				}
			}
		})
		defer func() {
			if !stop.Stop() {
				<-sampled
			}
		}()
	}
	if m.kind.Slow && t.Slow != nil {
		t.Spec = *t.Slow
		m.res.Slow = append(m.res.Slow, t.ID)
	}
	res, err := m.load(ctx, cfg, t.Spec)
	if err != nil {
		return err
	}
	for name, v := range res.Metrics {
		if name == "machine_s_per_gb" && m.cond.Link != nil {
			continue // it would be the link model's time, mostly
		}
		m.res.Metrics[t.ID+"."+name] = v
	}
	if len(res.Timeline) > 0 {
		m.res.Timelines[t.ID] = res.Timeline
	}
	m.say("%s %s", t.ID, brief(t.Spec.Kind, res.Metrics))
	return nil
}

// brief is the one number of a test that progress shows.
func brief(k load.Kind, metrics map[string]float64) string {
	if v := metrics["mbps"]; v > 0 && v < 10 {
		return fmt.Sprintf("%.2g Mbit/s", v)
	}
	for _, f := range []struct{ name, format string }{
		{"mbps", "%.0f Mbit/s"}, {"per_s", "%.0f/s"}, {"p50_us", "%.0f µs"}, {"p50_s", "%.2f s"},
	} {
		if v, ok := metrics[f.name]; ok {
			return fmt.Sprintf(f.format, v)
		}
	}
	if k == load.UDP {
		return fmt.Sprintf("%.2g+%.2g %% lost, p99 +%.0f ms", metrics["up_lost"], metrics["down_lost"], metrics["p99_ms"])
	}
	if k == load.Keystroke {
		return fmt.Sprintf("p99 %.0f ms", metrics["p99_ms"])
	}
	return fmt.Sprintf("%.1f ms", metrics["p50_ms"])
}

// load runs one load test in a process of its own on the client.
func (m *measurement) load(ctx context.Context, cfg load.Config, s load.Spec) (*load.Result, error) {
	args := append([]string{"load", "--proxy", cfg.Proxy, "--target", cfg.Target, "--control", cfg.Control}, s.Args()...)
	for role, pid := range cfg.Processes {
		args = append(args, "--process", fmt.Sprintf("%s=%d", role, pid))
	}
	// The last resort: every test has limits of its own.
	ctx, cancel := context.WithTimeout(ctx, time.Duration((s.Seconds+s.Warmup)*float64(time.Second))+150*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := m.net.Client.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" && ctx.Err() == nil {
			return nil, errors.New(strings.TrimPrefix(text, "bench: "))
		}
		return nil, fmt.Errorf("load: %w", err)
	}
	res := &load.Result{}
	return res, json.Unmarshal(stdout.Bytes(), res)
}
