// Package handover has a running process replaced by a newer copy of its program, on the same sockets and with the same
// lock, so that nobody who connects meantime is refused. It knows nothing of what the program does.
//
//	running process                              successor
//	  starts it with GODWIT_HANDOVER,   ──>        Listen finds sockets by what they were opened as
//	  the sockets and the lock                     … opens, reads, checks whatever can go wrong …
//	  goes on as the one that serves               Ready: its standard error is the real one from now on
//	                                    <──        "ready"
//	  hands over                                   serves
//
// If the successor ends, or says nothing in time, it never was: the running process serves on, and has what the other
// wrote to standard error. The successor is the program that lies where this one was started from (Successor), or the
// very program that runs (Again).
//
// Whoever started the first process waits for that one: a terminal, a container, a service manager. So it stays when it
// has handed over, with nothing of what it held in memory: Follow has it become a process that only waits.
//
//	first process ── hands over, ends its work ── Follow ──> waits until all that follow have ended: Waits
//	  └── successor ── hands over, ends its work, ends
//	        └── successor, adopted by the first process ── serves
//
// Descriptors, from 3 on: where to write "ready"; the real standard error; the lock; then the
// sockets, in the order of the list of "network address" (JSON) that the variable holds.
package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

const (
	// variable tells a process that it is a successor.
	variable = "GODWIT_HANDOVER"
	// memoVariable has what a process has to tell the one that does the same after it.
	memoVariable = "GODWIT_HANDOVER_MEMO"
	// waitVariable tells a process that it only waits, and for which group of processes.
	waitVariable = "GODWIT_HANDOVER_WAIT"
)

// Process is this process, as one of those that follow each other. Safe for concurrent use.
type Process struct {
	path  string
	args  []string
	first bool // it has no predecessor
	memo  string

	mu        sync.Mutex
	inherited []socket // not asked for yet
	open      []socket
	lock      *os.File // the predecessor's; nil if there is none
	ready     *os.File
	stderr    *os.File
	successor *Successor
}

type socket struct {
	name string
	l    net.Listener
}

func (s socket) close() { s.l.Close() }

func socketName(network, address string) string { return network + " " + address }

// This finds out what this process is. Call it once, before it opens or starts anything.
func This() (*Process, error) {
	p := &Process{path: startedAs(), args: os.Args[1:]}
	names, ok := os.LookupEnv(variable)
	if !ok {
		p.first = true
		return p, nil
	}
	p.memo = os.Getenv(memoVariable)
	os.Unsetenv(memoVariable)
	os.Unsetenv(variable) // whatever is started from here is no successor
	if err := p.inherit(names); err != nil {
		return nil, fmt.Errorf("taking over from the running process: %w", err)
	}
	return p, nil
}

// startedAs is the path that this process was started as: another program may lie there by now.
func startedAs() string {
	name := os.Args[0]
	if strings.ContainsRune(name, filepath.Separator) {
		if abs, err := filepath.Abs(name); err == nil {
			return abs
		}
	} else if path, err := exec.LookPath(name); err == nil {
		return path
	}
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return self
}

// Memo is what the predecessor gave to Again; empty otherwise.
func (p *Process) Memo() string { return p.memo }

// Succeeds reports whether this process follows another one, whose lock and sockets it has.
func (p *Process) Succeeds() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready != nil
}

// Lock is the lock that the predecessor holds; whoever calls owns it. It is nil without a predecessor.
func (p *Process) Lock() *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.lock
	p.lock = nil
	return f
}

// Listen is net.Listen, but for a socket that the predecessor has opened for the same network and address. A successor
// of this process will find it in turn, unless it is closed by then.
func (p *Process) Listen(network, address string) (net.Listener, error) {
	name := socketName(network, address)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.inherited {
		if s.name == name {
			p.inherited = append(p.inherited[:i:i], p.inherited[i+1:]...)
			p.open = append(p.open, s)
			return s.l, nil
		}
	}
	l, err := net.Listen(network, address)
	if err == nil {
		p.open = append(p.open, socket{name, l})
	}
	return l, err
}

// Ready tells the predecessor that this process serves from now on, and closes the sockets that nobody asked for. It
// does nothing without a predecessor. An error means that the predecessor may serve on.
func (p *Process) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.inherited {
		s.close()
	}
	p.inherited = nil
	if p.ready == nil {
		return nil
	}
	err := p.tellReady()
	p.ready.Close()
	p.ready = nil
	return err
}

// Close gives up what was inherited and not used.
func (p *Process) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.inherited {
		s.close()
	}
	p.inherited = nil
	for _, f := range []*os.File{p.lock, p.ready, p.stderr} {
		if f != nil {
			f.Close()
		}
	}
	p.lock, p.ready, p.stderr = nil, nil, nil
}

// ErrNotHere is matched where the system cannot do this.
var ErrNotHere = errors.New("a running gateway can be replaced on Linux only: stop it, and start the new one")

// FailedError says that a successor did not come to be ready. This process goes on as before.
type FailedError struct {
	Said string // on standard error; may be empty
	Err  error
}

func (e *FailedError) Error() string {
	s := "the new process did not start, and the running one goes on: " + e.Err.Error()
	if said := strings.TrimSpace(e.Said); said != "" {
		s += "\n" + said
	}
	return s
}

func (e *FailedError) Unwrap() error { return e.Err }

// Successor is a process that has taken over.
type Successor struct {
	PID int
	// Ended gets how it ended, once.
	Ended <-chan error
}

// maxSaid bounds what is kept of what a successor writes to standard error before it is ready.
const maxSaid = 4 << 10

// tail is an io.Writer that keeps the end.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if n := len(t.b) - maxSaid; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
