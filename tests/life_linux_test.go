package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ended waits for a process that should end by itself, and returns its exit code.
func (w *world) ended(what string, p *process, patience time.Duration) int {
	w.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		w.t.Fatalf("%s: it still runs after %v", what, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// hello fetches a page through the tunnel.
func (w *world) hello() error {
	conn, err := w.client.dial(proxyAddr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	request, err := http.NewRequest("GET", "http://site.test/hello", nil)
	if err != nil {
		return err
	}
	if err := request.WriteProxy(conn); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	page, err := io.ReadAll(answer.Body)
	if err == nil && !strings.HasPrefix(string(page), "hello over") {
		err = fmt.Errorf("status %s, %q", answer.Status, page)
	}
	return err
}

// TestLife follows a client from before it is up until after it is down, by the exit codes that scripts rely on.
func TestLife(t *testing.T) {
	w := withGateway(t)
	if code, out := w.clientCommand("status"); code != 3 {
		t.Errorf("status before up ended with %d, want 3: %s", code, out)
	}
	p := w.startClient(w.key)
	if err := w.hello(); err != nil {
		t.Errorf("once up: %v", err)
	}
	code, out := w.clientCommand("status", "--json")
	var status struct {
		Schema string `json:"schema"`
	}
	err := json.Unmarshal([]byte(out), &status)
	if code != 0 || err != nil || !strings.HasPrefix(status.Schema, "godwit.") {
		t.Errorf("status --json ended with %d (%v), want 0 and a document with a schema: %s", code, err, out)
	}
	secret, _, _ := strings.Cut(strings.TrimPrefix(w.key, "godwit://"), "@")
	if strings.Contains(out, secret) {
		t.Error("status --json prints the access key")
	}
	if code, out := w.clientCommand("down"); code != 0 {
		t.Errorf("down ended with %d, want 0: %s", code, out)
	}
	if code := w.ended("up, brought down", p, 10*time.Second); code != 0 {
		t.Errorf("up, brought down, ended with %d, want 0", code)
	}
	if code, out := w.clientCommand("status"); code != 3 {
		t.Errorf("status after down ended with %d, want 3: %s", code, out)
	}
}

// TestInterrupt ends a client as ^C does.
func TestInterrupt(t *testing.T) {
	w := up(t)
	_ = w.clientProcess.cmd.Process.Signal(syscall.SIGINT)
	if code := w.ended("up, interrupted", w.clientProcess, 10*time.Second); code != 130 {
		t.Errorf("up, interrupted, ended with %d, want 130", code)
	}
}

// TestKilled starts a client and a gateway again after each was killed with no chance to clean up.
func TestKilled(t *testing.T) {
	w := up(t)
	for _, name := range []string{"client", "gateway"} {
		if err := w.hello(); err != nil {
			t.Fatalf("before the %s is killed: %v", name, err)
		}
		if name == "client" {
			_ = w.clientProcess.cmd.Process.Kill()
			w.ended("client, killed", w.clientProcess, 10*time.Second)
			w.clientProcess = w.startClient(w.key)
		} else {
			_ = w.gatewayProcess.cmd.Process.Kill()
			w.ended("gateway, killed", w.gatewayProcess, 10*time.Second)
			w.gatewayProcess = w.startGateway()
		}
		w.eventually("pages after the "+name+" came back", w.clientProcess, time.Minute, w.hello)
	}
}

// TestBlocked has a network that swallows everything: the client says so, with the code for that.
func TestBlocked(t *testing.T) {
	w := withGateway(t)
	w.cutOpen("drop", "drop")
	p := w.start("client", w.client.command(godwit(t), "up", "--foreground", "--timeout", "10s",
		"--state-dir", w.clientDir(), "--proxy", proxyAddr, w.key))
	if code := w.ended("up, blocked", p, time.Minute); code != 4 {
		t.Errorf("up, blocked, ended with %d, want 4", code)
	}
}

// TestStranger meets a website, over either protocol, and nothing says what is behind it.
func TestStranger(t *testing.T) {
	need(t, "curl")
	w := withGateway(t)
	for _, version := range []string{"--http1.1", "--http2"} {
		code, out := w.curl("--insecure", version, "--include", "https://"+net.JoinHostPort(gatewayAddr, gatewayPort)+"/")
		if ok := code == 0 && strings.HasPrefix(out, "HTTP/"); !ok || strings.Contains(strings.ToLower(out), "godwit") {
			t.Errorf("curl %s ended with %d and said:\n%s", version, code, out)
		}
	}
}
