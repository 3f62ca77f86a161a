package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The addresses of the drawing in doc.go.
const (
	middleAddr  = "198.51.100.1"
	gatewayAddr = "203.0.113.2"
	// gatewayAddr6 is the gateway's in tests that give it one.
	gatewayAddr6 = "2001:db8:3::2"
	webAddr      = "192.0.2.10"
	webAddr6     = "2001:db8:2::10"
	dnsAddr      = "192.0.2.53"
	unboundAddr  = "192.0.2.54"

	gatewayPort = "443"
	proxyAddr   = "127.0.0.1:1080"
)

// A world is the four hosts, the servers in the world, and whatever of godwit the test has started.
type world struct {
	t   *testing.T
	dir string

	client, middle, gateway, world *host

	ipv6 bool
	web  *site
	dns  *nameServer
	spy  *nameServer // the middle's resolver: who asks it for a name of ours has leaked it

	endpoint                      string // what the gateway's access keys say
	key                           string // the gateway's first access key
	gatewayProcess, clientProcess *process
}

// newWorld lays the cables and starts the world's servers. At the end of the test it looks for leaks.
func newWorld(t *testing.T) *world {
	t.Helper()
	needNamespaces(t)
	need(t, "ip", "nft")
	w := &world{t: t, dir: t.TempDir(), endpoint: net.JoinHostPort(gatewayAddr, gatewayPort)}
	w.client, w.middle = newHost(t, "client"), newHost(t, "middle")
	w.gateway, w.world = newHost(t, "gateway"), newHost(t, "world")
	_, err := os.Stat("/proc/net/if_inet6")
	w.ipv6 = err == nil

	w.ip(w.middle, fmt.Sprintf(`
		link add client type veth peer name wan netns %s
		link add gateway type veth peer name wan netns %s
		addr add %s/24 dev client
		addr add 203.0.113.1/24 dev gateway
		link set client up
		link set gateway up`, w.client.name, w.gateway.name, middleAddr))
	// No link-local addresses that come a second later: browsers drop everything when an address comes.
	w.ip(w.client, `
		addr add 198.51.100.2/24 dev wan
		link set wan addrgenmode none
		link set wan up
		route add default via `+middleAddr)
	w.ip(w.gateway, fmt.Sprintf(`
		addr add %s/24 dev wan
		link set wan up
		route add default via 203.0.113.1
		link add world type veth peer name wan netns %s
		addr add 192.0.2.1/24 dev world
		link set world up`, gatewayAddr, w.world.name))
	w.ip(w.world, fmt.Sprintf(`
		addr add %s/24 dev wan
		addr add %s/24 dev wan
		addr add %s/24 dev wan
		link set wan up`, webAddr, dnsAddr, unboundAddr))
	if w.ipv6 {
		w.ip(w.middle, "addr add 2001:db8:1::1/64 dev client nodad")
		w.ip(w.client, "addr add 2001:db8:1::2/64 dev wan nodad\nroute add default via 2001:db8:1::1")
		w.ip(w.gateway, "addr add 2001:db8:2::1/64 dev world nodad")
		w.ip(w.world, "addr add "+webAddr6+"/64 dev wan nodad")
	}
	if err := w.middle.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	}); err != nil {
		t.Fatal(err)
	}
	w.track()
	w.watch()

	w.dns = newNameServer(t, w.world, dnsAddr, zone(w.ipv6))
	w.spy = newNameServer(t, w.middle, middleAddr, nil)
	w.client.files["/etc/resolv.conf"] = w.write("client.resolv.conf", "nameserver "+middleAddr+"\n")
	w.gateway.files["/etc/resolv.conf"] = w.write("gateway.resolv.conf", "nameserver "+dnsAddr+"\n")
	for _, h := range []*host{w.client, w.gateway, w.world} {
		h.files["/etc/hosts"] = w.write("hosts", "127.0.0.1 localhost\n::1 localhost\n")
	}
	w.web = newSite(t, w.world, w.dir)
	return w
}

// write makes a file in the world's directory.
func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// ip runs a script of ip(8) on a host.
func (w *world) ip(h *host, script string) {
	w.t.Helper()
	path, _ := lookPath("ip")
	cmd := exec.Command(path, "-n", h.name, "-batch", "-")
	cmd.Stdin = strings.NewReader(script + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("ip on %s: %v\n%s", h.name, err, out)
	}
}

// nft runs a script of nft(8) in the middle and returns what it printed.
func (w *world) nft(script string) string {
	w.t.Helper()
	return w.middle.run(w.t, script, "nft", "-f", "-")
}

// watch notes where the client's machine sends packets, other than to the gateway and to its resolver.
func (w *world) watch() {
	w.nft(`table inet watch {
		set strays4 { type ipv4_addr; flags dynamic; size 4096; }
		set strays6 { type ipv6_addr; flags dynamic; size 4096; }
		chain watch {
			type filter hook prerouting priority -300;
			iifname "client" ip daddr != { ` + gatewayAddr + `, ` + middleAddr + `, 224.0.0.0/4, 255.255.255.255 } add @strays4 { ip daddr }
			iifname "client" ip6 daddr != { ` + gatewayAddr6 + `, fe80::/10, ff00::/8 } add @strays6 { ip6 daddr }
		}
	}`)
	w.t.Cleanup(func() {
		if seen := w.leaks(); seen != nil {
			w.t.Errorf("the client's machine went past the tunnel: %q", seen)
		}
	})
}

// leaks are the addresses that the client's machine sent packets to, past the tunnel, and the names it looked up there.
func (w *world) leaks() []string {
	return append(elements.FindAllString(w.nft("list table inet watch"), -1), w.spy.names(".test.")...)
}

var elements = regexp.MustCompile(`elements = \{[^}]*\}`)

// dial connects from a host.
func (h *host) dial(address string) (conn net.Conn, err error) {
	err = h.do(func() error {
		conn, err = net.DialTimeout("tcp", address, 5*time.Second)
		return err
	})
	return conn, err
}

// listen opens a TCP port on a host.
func (h *host) listen(t *testing.T, address string) (l net.Listener) {
	t.Helper()
	if err := h.do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// listenUDP opens a UDP port on a host.
func (h *host) listenUDP(t *testing.T, address string) (c net.PacketConn) {
	t.Helper()
	if err := h.do(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echoUDP sends back what comes to a UDP port.
func (h *host) echoUDP(t *testing.T, address string) net.Addr {
	t.Helper()
	c := h.listenUDP(t, address)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr()
}

// A process is a program that runs until the test ends.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // what it ended with, once done is closed
}

// start runs a program. When the test ends it is asked to stop, and must; what it said is shown if the test failed.
func (w *world) start(name string, cmd *exec.Cmd) *process {
	w.t.Helper()
	p := &process{cmd: cmd, log: filepath.Join(w.dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	_ = log.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	w.t.Cleanup(func() {
		if !p.stop(syscall.SIGTERM, 20*time.Second) {
			w.t.Errorf("%s did not end within 20 s of being asked to", name)
		}
		said, _ := os.ReadFile(p.log)
		if i := bytes.Index(said, []byte("WARNING: DATA RACE")); i >= 0 || bytes.Contains(said, []byte("\ngoroutine ")) {
			w.t.Errorf("%s crashed or raced", name)
		}
		if w.t.Failed() {
			w.t.Logf("%s (%v) said:\n%s", name, p.err, said)
		}
	})
	return p
}

// stop signals the process and waits for its end. If that does not come it is killed, and stop returns false.
func (p *process) stop(sig os.Signal, patience time.Duration) bool {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
		return true
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		return false
	}
}

// errNothing says that what is waited for has not come.
var errNothing = errors.New("nothing yet")

// eventually waits until f returns no error, for as long as the process lives.
func (w *world) eventually(what string, p *process, patience time.Duration, f func() error) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			w.t.Fatalf("%s: the program has ended (%v)", what, p.err)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}

// initGateway makes a gateway with its first access key.
func (w *world) initGateway() {
	w.t.Helper()
	out := w.gateway.run(w.t, "", godwit(w.t), "gateway", "init", "--json", "--state-dir", w.gatewayDir(),
		"--endpoint", w.endpoint)
	var made struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || !strings.HasPrefix(made.Key, "godwit://") {
		w.t.Fatalf("gateway init --json printed no access key (%v):\n%s", err, out)
	}
	w.key = made.Key
}

// startGateway runs the gateway that initGateway made.
func (w *world) startGateway() *process {
	w.t.Helper()
	return w.startGatewayAs(w.gateway.command(godwit(w.t), w.gatewayArgs()...))
}

func (w *world) gatewayArgs() []string {
	args := []string{"gateway", "run", "--state-dir", w.gatewayDir(),
		"--listen", net.JoinHostPort(gatewayAddr, gatewayPort), "--allow", "192.0.2.0/24"}
	if w.ipv6 {
		args = append(args, "--allow", "2001:db8:2::/64")
	}
	return args
}

// startGatewayAs runs it with that command.
func (w *world) startGatewayAs(cmd *exec.Cmd) *process {
	w.t.Helper()
	p := w.start("gateway", cmd)
	w.eventually("gateway listens", p, 30*time.Second, func() error {
		conn, err := w.gateway.dial(net.JoinHostPort(gatewayAddr, gatewayPort))
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return p
}

// startClient runs the client with that key, and those flags, until its proxy is ready. It looks like Chrome, as most do, and
// not like what the device would be by chance.
func (w *world) startClient(key string, flags ...string) *process {
	w.t.Helper()
	p := w.launchClient(key, flags...)
	w.clientIsUp(p)
	return p
}

// launchClient runs it, and does not wait.
func (w *world) launchClient(key string, flags ...string) *process {
	w.t.Helper()
	args := append([]string{"up", "--foreground", "--state-dir", w.clientDir(), "--browser", "chrome", "--proxy", proxyAddr}, flags...)
	return w.start("client", w.client.command(godwit(w.t), append(args, key)...))
}

// clientIsUp waits until it is connected, and its proxy listens.
func (w *world) clientIsUp(p *process) {
	w.t.Helper()
	w.eventually("client is up", p, 30*time.Second, func() error {
		if code, out := w.clientCommand("status", "--json"); code != 0 {
			return fmt.Errorf("status ended with %d: %s", code, out)
		} else if !json.Valid([]byte(out)) {
			return fmt.Errorf("status --json printed %q", out)
		}
		conn, err := w.client.dial(proxyAddr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
}

func (w *world) gatewayDir() string { return filepath.Join(w.dir, "gateway") }
func (w *world) clientDir() string  { return filepath.Join(w.dir, "client") }

// clientCommand runs one of godwit's commands against the running client; it returns its exit code and what it printed.
func (w *world) clientCommand(args ...string) (code int, out string) {
	w.t.Helper()
	return run(w.t, w.client.command(godwit(w.t), append(args, "--state-dir", w.clientDir())...))
}

// run runs a command to its end and returns its exit code and its standard output, or its complaint if that is empty.
func run(t *testing.T, cmd *exec.Cmd) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if stdout.Len() == 0 {
		return cmd.ProcessState.ExitCode(), stderr.String()
	}
	return cmd.ProcessState.ExitCode(), stdout.String()
}

// needGodwit skips the test where there is no binary, or no world for it to run in.
func needGodwit(t *testing.T) {
	t.Helper()
	godwit(t)
	needNamespaces(t)
	need(t, "ip", "nft")
}

// withGateway makes a world with a gateway in it.
func withGateway(t *testing.T) *world {
	t.Helper()
	needGodwit(t)
	w := newWorld(t)
	w.initGateway()
	w.gatewayProcess = w.startGateway()
	return w
}

// up makes a world in which a client is connected to a gateway.
func up(t *testing.T) *world {
	t.Helper()
	w := withGateway(t)
	w.clientProcess = w.startClient(w.key)
	return w
}
