package suite

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// self is this program, whose other subcommands are the helpers on the hosts.
const self = "/proc/self/exe"

// helper is this program doing something on a host until it is stopped. It prints a first line when it is ready, and
// may print more when it ends.
type helper struct {
	cmd   *exec.Cmd
	out   *bufio.Reader
	err   bytes.Buffer
	ended bool
}

func startHelper(h *netns.Host, args ...string) (*helper, error) {
	p := &helper{cmd: exec.Command(self, args...)}
	p.cmd.Stderr = &p.err
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(stdout)
	if err := h.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	if _, err := p.out.ReadString('\n'); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s on %s: %s", args[0], h.Name, strings.TrimSpace(p.err.String()))
	}
	return p, nil
}

// stop ends it and returns what else it printed. It is safe on nil and to repeat.
func (p *helper) stop() []byte {
	if p == nil || p.ended {
		return nil
	}
	p.ended = true
	p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(3*time.Second, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	rest, _ := io.ReadAll(p.out)
	p.cmd.Wait()
	return rest
}

// Link is the link model in a process of its own on transit.
type Link struct{ h *helper }

// StartLink makes a Linked Net carry frames; forward is from client to gateway.
func StartLink(n *topology.Net, spec linkmodel.Spec) (*Link, error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	h, err := startHelper(n.Transit, "link", "--spec", string(b), topology.TransitToClient, topology.TransitToGateway)
	return &Link{h}, err
}

// Stop ends it and returns what it did "up", client to gateway, and "down".
func (l *Link) Stop() (stats map[string]linkmodel.Stats, err error) {
	if err := json.Unmarshal(l.h.stop(), &stats); err != nil {
		return nil, fmt.Errorf("link model left no statistics: %w", err)
	}
	return stats, nil
}
