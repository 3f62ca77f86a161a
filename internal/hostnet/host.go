//go:build linux || darwin || windows

package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/godwit-vpn/godwit/internal/filelock"
	"github.com/godwit-vpn/godwit/internal/hostnet/kept"
)

// Host is this machine's network in this process's hands. Its methods may be called at the same time.
type Host struct {
	dir    string
	etc    string // where resolv.conf is, on Linux
	lock   *os.File
	closed bool

	mu      sync.Mutex // guards the machine's network, and what is below
	kept    changes
	dns     []netip.Addr // that are ours
	packets uint64       // blocked by firewalls that were replaced
	bytes   uint64
	system
}

// Open takes the machine's network into this process's hands, or fails with a *HeldError. What a process that died has
// left behind, its kill switch above all, stays until the first Set puts what is desired in its place, or Close undoes
// it: in between nothing is open that was shut.
func Open(stateDir string) (*Host, error) { return open(stateDir, "/etc") }

func open(stateDir, etc string) (h *Host, err error) {
	if err := allowed(); err != nil {
		return nil, err
	}
	h = &Host{dir: stateDir, etc: etc, system: thisSystem()}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := h.take(); err != nil {
		return nil, err
	}
	if h.kept, err = kept.Read[changes](h.dir); err != nil {
		h.lock.Close()
		return nil, fmt.Errorf("%w: 'godwit rescue' removes it", err)
	}
	return h, nil
}

// take locks the directory for as long as this process lives.
func (h *Host) take() error {
	path := filepath.Join(h.dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock file: %w", err)
	}
	if err := filelock.Lock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, filelock.ErrLocked) {
			return fmt.Errorf("lock file %q: %w", path, err)
		}
		b := make([]byte, 16)
		n, _ := f.Read(b)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		return &HeldError{PID: pid}
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("lock file %q: %w", path, err)
	}
	h.lock = f
	return nil
}

// save has what is kept on the disk.
func (h *Host) save() error { return kept.Write(h.dir, h.kept) }

// holder is the process that holds the network; 0 if that one has died, or if this user may not know.
func holder(stateDir string) int {
	// The lock is not tried: for that moment a process that begins would find it taken.
	text, err := os.ReadFile(filepath.Join(stateDir, "lock"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || !lives(pid) {
		return 0
	}
	return pid
}

// Set makes the network what is desired. It may be called again at any time, with the same or something else; each call
// also repairs what others have changed. The firewall is first, so whatever fails after it, nothing leaks. DNS is last: an
// ErrDNS says that all else is set.
func (h *Host) Set(d Desired) error {
	if err := d.check(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fs.ErrClosed
	}
	if p, b, err := blocked(); err == nil {
		h.packets += p
		h.bytes += b
	}
	return h.set(d)
}

// Blocked is what the firewall has dropped since Open, and a firewall that it found before that: packets that would have
// left outside of the tunnel. Most programs never get so far, as there is no route for them. On Windows it is not known, and 0.
func (h *Host) Blocked() (packets, bytes uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, b, err := blocked()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // nothing is set
	}
	return h.packets + p, h.bytes + b, err
}

// Close makes everything as it was before the first Set, and opens the kill switch last.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	_, err := h.undo()
	return errors.Join(err, h.lock.Close())
}

// Rescue undoes what a process that was killed has left, and says in words what that was. Nothing to do is no error; a
// process that still holds the network is one.
func Rescue(stateDir string) (undone []string, err error) { return rescue(stateDir, "/etc") }

func rescue(stateDir, etc string) (undone []string, err error) {
	if err := allowed(); err != nil {
		return nil, err
	}
	h := &Host{dir: stateDir, etc: etc, system: thisSystem()}
	if _, err := os.Stat(stateDir); err == nil {
		if err := h.take(); err != nil {
			return nil, err
		}
		defer h.lock.Close()
		if h.kept, err = kept.Read[changes](stateDir); err != nil {
			undone = append(undone, "what was to be put back could not be read, so resolv.conf and kernel settings stay as they are: "+
				err.Error())
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	more, err := h.undo()
	return append(undone, more...), err
}
