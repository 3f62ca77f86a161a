package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// upgradable makes a world whose gateway runs from a file of its own, without a terminal, with a client
// connected. manager is what the service manager hears.
func upgradable(t *testing.T) (w *world, binary string, manager *net.UnixConn) {
	// What is caught here is not ignored by those started from here, as it would be under nohup.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	t.Helper()
	needGodwit(t)
	w = newWorld(t)
	binary = filepath.Join(w.dir, "godwit")
	w.install(binary, godwit(t))
	w.initGateway()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(w.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	cmd := w.gateway.command(binary, w.gatewayArgs()...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+filepath.Join(w.dir, "notify"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	w.gatewayProcess = w.startGatewayAs(cmd)
	t.Cleanup(func() {
		if pid, err := w.gatewayPID(); err == nil {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	})
	w.clientProcess = w.startClient(w.key)
	return w, binary, manager
}

// install puts a copy of a program in another's place, as a package manager does: what runs keeps the file it has.
func (w *world) install(path, from string) {
	w.t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(path+".new", content, 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// gatewayPID asks the gateway that serves for its process.
func (w *world) gatewayPID() (pid int, err error) {
	code, out := run(w.t, w.gateway.command(godwit(w.t), "gateway", "status", "--json", "--state-dir", w.gatewayDir()))
	if code != 0 {
		return 0, fmt.Errorf("gateway status ended with %d: %s", code, out)
	}
	var doc struct{ PID int }
	err = json.Unmarshal([]byte(out), &doc)
	return doc.PID, err
}

func (w *world) upgrade() (code int, out string) {
	return run(w.t, w.gateway.command(godwit(w.t), "gateway", "upgrade", "--state-dir", w.gatewayDir()))
}

// gone waits until a process that is not ours has ended; as the first process of its namespace, this one is left with
// those whose parents have.
func gone(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	if _, state, _ := bytes.Cut(stat, []byte(") ")); bytes.HasPrefix(state, []byte("Z")) {
		return nil
	}
	return fmt.Errorf("process %d still runs", pid)
}

// stranger fetches the gateway's website once, as a new connection.
func (w *world) stranger() error {
	raw, err := w.client.dial(net.JoinHostPort(gatewayAddr, gatewayPort))
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+gatewayAddr+"\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// A socket is a WebSocket to the site's echo, by way of the proxy.
type socket struct {
	net.Conn
	r *bufio.Reader
}

func (w *world) openSocket() *socket {
	w.t.Helper()
	conn, err := w.client.dial(proxyAddr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	s := &socket{conn, bufio.NewReader(conn)}
	for _, request := range []string{
		"CONNECT site.test:80 HTTP/1.1\r\nHost: site.test:80\r\n\r\n",
		"GET /echo HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	} {
		if _, err := io.WriteString(conn, request); err != nil {
			w.t.Fatal(err)
		}
		for line := " "; line != "\r\n"; {
			if line, err = s.r.ReadString('\n'); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return s
}

// says sends a message and wants it back.
func (s *socket) says(text string) error {
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	frame := append([]byte{0x82, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...) // masked with zeros (RFC 6455 §5.2)
	if _, err := s.Write(frame); err != nil {
		return err
	}
	got := make([]byte, 2+len(text))
	if _, err := io.ReadFull(s.r, got); err != nil || string(got[2:]) != text {
		return fmt.Errorf("%q came back, %v", got, err)
	}
	return nil
}

// onlyWaits fails until a process has become one that only waits for those that follow it.
func onlyWaits(pid int) error {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err == nil && !bytes.Contains(env, []byte("GODWIT_HANDOVER_WAIT=")) {
		err = fmt.Errorf("process %d does not wait", pid)
	}
	return err
}

// TestUpgrade replaces a gateway that is in use, by one that is broken, and twice by one that is not. A download and a
// WebSocket go through all of it, nobody who comes meanwhile is refused, and each process ends after its last stream;
// but for the first, which stays for whoever waits for it.
func TestUpgrade(t *testing.T) {
	need(t, "curl")
	w, binary, manager := upgradable(t)
	first := w.gatewayProcess
	firstPID, err := w.gatewayPID()
	if err != nil {
		t.Fatal(err)
	}
	const size, rate = 60_000_000, 6_000_000
	file := filepath.Join(w.dir, "download")
	download := w.start("curl", w.client.command("curl", "--silent", "--show-error", "--socks5-hostname", proxyAddr,
		"--output", file, fmt.Sprintf("http://site.test/bytes/upgrade/%d?rate=%d", size, rate)))
	w.eventually("the download has begun", download, 30*time.Second, func() error { return atLeast(file, size/20) })
	ws := w.openSocket()
	talk := func(when string) {
		t.Helper()
		if err := ws.says(when); err != nil {
			t.Errorf("the WebSocket, %s: %v", when, err)
		}
		if err := w.hello(); err != nil {
			t.Errorf("a new connection, %s: %v", when, err)
		}
	}

	var strangers sync.WaitGroup
	stop := make(chan struct{})
	halt := sync.OnceFunc(func() {
		close(stop)
		strangers.Wait()
	})
	t.Cleanup(halt) // a goroutine must not outlive a test that has failed
	came := 0
	strangers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := w.stranger(); err != nil {
				t.Errorf("visitor %d of the website: %v", came, err)
			}
			came++
		}
	})
	talk("before")

	if err := os.WriteFile(binary+".new", []byte("#!/bin/sh\necho this build is broken >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(binary+".new", binary); err != nil {
		t.Fatal(err)
	}
	if code, out := w.upgrade(); code != 1 || !strings.Contains(out, "this build is broken") {
		t.Errorf("an upgrade to a broken program ended with %d: %s", code, out)
	}
	if pid, err := w.gatewayPID(); pid != firstPID {
		t.Errorf("after a broken one process %d serves (%v), want %d", pid, err, firstPID)
	}
	talk("after a broken one")

	w.install(binary, godwit(t))
	if code, out := w.upgrade(); code != 0 {
		t.Fatalf("upgrade ended with %d: %s", code, out)
	}
	secondPID, err := w.gatewayPID()
	if err != nil || secondPID == firstPID {
		t.Fatalf("after the upgrade process %d serves, %v", secondPID, err)
	}
	talk("after an upgrade")
	later := w.openSocket()

	if err := syscall.Kill(secondPID, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	thirdPID := 0
	w.eventually("a third process serves", first, 30*time.Second, func() (err error) {
		if thirdPID, err = w.gatewayPID(); err == nil && thirdPID == secondPID {
			err = fmt.Errorf("it is still process %d", thirdPID)
		}
		return err
	})
	talk("after two upgrades")
	if err := later.says("between"); err != nil {
		t.Errorf("the WebSocket of the second process: %v", err)
	}
	halt()
	t.Logf("%d visitors came meanwhile", came)

	select {
	case <-download.done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the download has not ended")
	}
	if download.err != nil || sumFile(t, file) != sumOf(t, "upgrade", size) {
		t.Errorf("the download: %v", download.err)
	}
	if onlyWaits(firstPID) == nil {
		t.Error("the first process has ended its work before its WebSocket")
	}
	talk("after the download")
	_ = ws.Close()
	w.eventually("the first process only waits", first, time.Minute, func() error { return onlyWaits(firstPID) })
	if err := later.says("alone"); err != nil {
		t.Errorf("the second process, once the first has ended: %v", err)
	}
	_ = later.Close()
	w.eventually("the second process ends", w.clientProcess, time.Minute, func() error { return gone(secondPID) })
	if err := w.hello(); err != nil {
		t.Errorf("the third process alone: %v", err)
	}
	if pid, err := w.gatewayPID(); pid != thirdPID {
		t.Errorf("process %d serves, %v, want %d", pid, err, thirdPID)
	}
	// The service manager knows the first process, and is to know no other: that one passes on what it is sent.
	_ = first.cmd.Process.Signal(syscall.SIGHUP)
	w.eventually("a fourth process serves", first, 30*time.Second, func() error {
		pid, err := w.gatewayPID()
		if err == nil && pid == thirdPID {
			err = fmt.Errorf("it is still process %d", pid)
		}
		return err
	})
	if err := w.hello(); err != nil {
		t.Errorf("the fourth process: %v", err)
	}
	_ = first.cmd.Process.Signal(syscall.SIGTERM)
	if code := w.ended("the first process, asked to end", first, time.Minute); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if gone(thirdPID) != nil {
		t.Error("the third process has not ended before the first")
	}
	for _, want := range []string{"READY=1", "READY=1", "READY=1", "READY=1", "STOPPING=1", ""} {
		if got := heard(manager); got != want {
			t.Errorf("the service manager heard %q, want %q", got, want)
		}
	}
}

// heard is the next thing that the service manager has been told; empty if there is none.
func heard(manager *net.UnixConn) string {
	_ = manager.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	b := make([]byte, 1000)
	n, _ := manager.Read(b)
	return string(b[:n])
}

// TestUpgradeLost has the process that took over die while the one before still carries a stream. A service manager
// starts nothing as long as that one lives, so it ends, and says why.
func TestUpgradeLost(t *testing.T) {
	w, _, _ := upgradable(t)
	ws := w.openSocket()
	if err := ws.says("before"); err != nil {
		t.Fatal(err)
	}
	if code, out := w.upgrade(); code != 0 {
		t.Fatalf("upgrade ended with %d: %s", code, out)
	}
	if err := ws.says("after"); err != nil {
		t.Error(err)
	}
	pid, err := w.gatewayPID()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := w.ended("the process before", w.gatewayProcess, time.Minute); code != 1 {
		t.Errorf("it ended with %d, want 1", code)
	}
}

// TestNoCoreDumps reads back what both ends have told the kernel.
func TestNoCoreDumps(t *testing.T) {
	w := up(t)
	for name, p := range map[string]*process{"gateway": w.gatewayProcess, "client": w.clientProcess} {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
				if f := strings.Fields(rest); len(f) < 2 || f[0] != "0" || f[1] != "0" {
					t.Errorf("the %s may dump core: %s", name, line)
				}
			}
		}
	}
}
