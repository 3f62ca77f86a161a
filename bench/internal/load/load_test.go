//go:build linux

package load

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// serve runs a Target on this sandbox's loopback until the test ends.
func serve(t *testing.T) Config {
	t.Helper()
	netnstest.Need(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	control := filepath.Join(t.TempDir(), "control")
	go func() { ended <- Target(ctx, "127.0.0.1", control, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return Config{Target: "127.0.0.1", Control: control}
}

// proxy is a SOCKS5 server that counts what it was asked for. It reads and answers like others do, not like
// socksConnect writes.
func proxy(t *testing.T, asked *int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			*asked++
			go func() {
				defer c.Close()
				head := make([]byte, 2)
				io.ReadFull(c, head)
				io.ReadFull(c, make([]byte, head[1]))
				c.Write([]byte{5, 0})
				req := make([]byte, 10)
				io.ReadFull(c, req)
				if req[1] == socksAssociate {
					relayDatagrams(c)
					return
				}
				addr, _ := netip.AddrFromSlice(req[4:8])
				up, err := net.Dial("tcp", netip.AddrPortFrom(addr, uint16(req[8])<<8|uint16(req[9])).String())
				if err != nil {
					c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
					return
				}
				defer up.Close()
				c.Write([]byte{5, 0, 0, 3, 3, 'a', '.', 'b', 0, 1})
				go func() {
					io.Copy(up, c)
					up.(*net.TCPConn).CloseWrite()
				}()
				io.Copy(c, up)
			}()
		}
	}()
	return l.Addr().String()
}

// relayDatagrams serves an association as long as c lasts. It says that it is at no address: at the one it was asked at.
func relayDatagrams(c net.Conn) {
	in, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return
	}
	defer in.Close()
	out, err := net.ListenUDP("udp", nil)
	if err != nil {
		return
	}
	defer out.Close()
	port := in.LocalAddr().(*net.UDPAddr).Port
	c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, byte(port >> 8), byte(port)})
	var client atomic.Pointer[netip.AddrPort]
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := in.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			client.Store(&from)
			addr, _ := netip.AddrFromSlice(buf[4:8])
			out.WriteToUDPAddrPort(buf[10:n], netip.AddrPortFrom(addr, uint16(buf[8])<<8|uint16(buf[9])))
		}
	}()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, _, err := out.ReadFromUDPAddrPort(buf[10:])
			if err != nil {
				return
			}
			copy(buf, []byte{0, 0, 0, 1, 127, 0, 0, 1, PortUDP >> 8, PortUDP & 255})
			in.WriteToUDPAddrPort(buf[:10+n], *client.Load())
		}
	}()
	io.Copy(io.Discard, c)
}

func TestEveryTestStraightAndThroughAProxy(t *testing.T) {
	cfg := serve(t)
	var asked int
	through := cfg
	through.Proxy = proxy(t, &asked)
	for name, cfg := range map[string]Config{"straight": cfg, "proxy": through} {
		for _, c := range []struct {
			spec Spec
			want []string
		}{
			{Spec{Kind: Ready, Seconds: 5}, []string{"ready_unix_ns"}},
			{Spec{Kind: Down, Streams: 2, Seconds: 0.5, Warmup: 0.1}, []string{"mbps", "cores_busy", "machine_s_per_gb"}},
			{Spec{Kind: Up, Seconds: 0.5}, []string{"mbps"}},
			{Spec{Kind: PingPong, Seconds: 0.1}, []string{"p50_us", "p99_us", "count"}},
			{Spec{Kind: PingPong, Seconds: 0.2, Bulk: 1}, []string{"p50_us", "bulk_mbps"}},
			{Spec{Kind: Keystroke, Seconds: 0.2, Interval: 10 * time.Millisecond, Bulk: 1}, []string{"p50_ms", "bulk_mbps"}},
			{Spec{Kind: ConnRate, Seconds: 0.2, Workers: 4}, []string{"per_s", "p50_ms"}},
			{Spec{Kind: ConnTime, Seconds: 5, Count: 10}, []string{"p50_ms", "p99_ms"}},
			{Spec{Kind: Fetch, Seconds: 10, Count: 2, Bytes: 1_000_000}, []string{"first_s", "p50_s"}},
			{Spec{Kind: UDP, Seconds: 0.3, Rate: 1, Bytes: 1000, Bulk: 1}, []string{"up_mbps", "down_mbps", "p50_ms", "bulk_mbps"}},
		} {
			res, err := Run(t.Context(), cfg, c.spec)
			if err != nil {
				t.Errorf("%s %s: %v", name, c.spec.Kind, err)
				continue
			}
			for _, w := range c.want {
				if res.Metrics[w] <= 0 {
					t.Errorf("%s %s: %s is %v", name, c.spec.Kind, w, res.Metrics[w])
				}
			}
			for _, bad := range []string{"failed", "broken_streams", "unanswered"} {
				if res.Metrics[bad] != 0 {
					t.Errorf("%s %s: %s is %v", name, c.spec.Kind, bad, res.Metrics[bad])
				}
			}
			if n := res.Metrics["count"]; c.spec.Count > 0 && n != float64(c.spec.Count) {
				t.Errorf("%s %s: %v of %d", name, c.spec.Kind, n, c.spec.Count)
			}
		}
	}
	if asked < 20 {
		t.Errorf("the proxy was asked %d times", asked)
	}
}

func TestUploadIsCountedAtTheTarget(t *testing.T) {
	cfg := serve(t)
	r := &runner{Config: cfg}
	count, err := r.uploaded()
	if err != nil {
		t.Fatal(err)
	}
	c, err := cfg.dial(t.Context(), PortBulk)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append([]byte{'u'}, make([]byte, 12345)...)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		n, err := count()
		if err != nil {
			t.Fatal(err)
		}
		if n == 12345 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of 12345 bytes counted", n)
		}
	}
}

func TestFailuresAreErrors(t *testing.T) {
	cfg := serve(t)
	none := cfg
	none.Proxy = "127.0.0.1:1"
	for _, k := range []Kind{Down, PingPong, ConnRate, ConnTime, Fetch, UDP, Ready} {
		if res, err := Run(t.Context(), none, Spec{Kind: k, Seconds: 0.2, Workers: 2, Bytes: 100, Rate: 1, Warmup: 0.05}); err == nil {
			t.Errorf("%s without a proxy: %v", k, res)
		}
	}
	if _, err := Run(t.Context(), cfg, Spec{Kind: "nonesuch"}); err == nil {
		t.Error("nonesuch ran")
	}
	gone := cfg
	gone.Processes = Processes{"client": 1 << 22}
	if _, err := Run(t.Context(), gone, Spec{Kind: Down, Seconds: 0.1}); err == nil {
		t.Error("took the time of a process that is not there")
	}
}

func TestGroupTime(t *testing.T) {
	// A shell that burns time itself and in a child it waits for.
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; sleep 60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	var last time.Duration
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		used, err := groupTime(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if used < last-20*time.Millisecond {
			t.Fatalf("time went back from %v to %v", last, used)
		}
		last = used
		if pids, reaped, _ := group(cmd.Process.Pid); reaped > 0 && len(pids) == 2 {
			break // the busy child was waited for, and sleep is running
		}
		if time.Now().After(end) {
			t.Fatalf("no child was waited for; %v used", last)
		}
	}
	rss, err := GroupRSS(cmd.Process.Pid)
	if err != nil || rss < 100<<10 {
		t.Errorf("resident %d bytes: %v", rss, err)
	}
}

func TestSpecArgs(t *testing.T) {
	t.Parallel()
	want := Spec{Kind: UDP, Streams: 3, Seconds: 2.5, Warmup: 0.25, Count: 7, Workers: 9,
		Interval: 20 * time.Millisecond, Bytes: 11, Bulk: 2, Rate: 0.08, Path: 200 * time.Millisecond}
	var got Spec
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	got.Bind(fs)
	if err := fs.Parse(want.Args()); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	p := Processes{}
	for _, bad := range []string{"", "x", "x=", "=3", "x=0", "x=-1", "x=y"} {
		if err := p.Set(bad); err == nil {
			t.Errorf("took %q", bad)
		}
	}
	if err := p.Set("client=12"); err != nil || p.String() != "client=12" {
		t.Errorf("%v %v", p, err)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	v := []time.Duration{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.2: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(v, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("quantile of nothing")
	}
}

// answers is a connection that plays a SOCKS server's bytes.
type answers struct {
	io.Reader
	io.Writer
}

func FuzzSOCKSAnswer(f *testing.F) {
	f.Add([]byte{5, 0, 5, 0, 0, 1, 1, 2, 3, 4, 0, 80, 'r', 'e', 's', 't'})
	f.Add([]byte{5, 0, 5, 0, 0, 3, 1, 'a', 0, 80, 'r', 'e', 's', 't'})
	f.Add([]byte{5, 0, 5, 5, 0, 1})
	f.Add([]byte{5, 255})
	f.Add([]byte("HTTP/1.1 400"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		_, err := socks(answers{in, io.Discard}, socksConnect, "192.0.2.1", 443)
		if err == nil && (len(b) < 9 || b[0] != 5 || b[1] != 0 || b[3] != 0) {
			t.Fatalf("took %x", b)
		}
		if err != nil {
			return
		}
		answer := 2 + 4 + 2 // and the address
		switch b[5] {
		case 1:
			answer += 4
		case 3:
			answer += 1 + int(b[6])
		case 4:
			answer += 16
		}
		if took := len(b) - in.Len(); took != answer {
			t.Fatalf("took %d bytes of %x, whose answer has %d", took, b, answer)
		}
	})
}

func TestJitter(t *testing.T) {
	t.Parallel()
	var even, uneven jitter
	for i := range 1000 {
		even.arrived(30 * time.Millisecond)
		uneven.arrived(time.Duration(30+4*(i%2)) * time.Millisecond) // every difference is 4 ms
	}
	if even.mean() != 0 {
		t.Errorf("%v ms where there is none", even.mean())
	}
	if uneven.now < 3.99 || uneven.now > 4.01 || uneven.mean() < 3.8 || uneven.mean() > 4 {
		t.Errorf("%v ms now, %v ms in the mean; want 4", uneven.now, uneven.mean())
	}
}
