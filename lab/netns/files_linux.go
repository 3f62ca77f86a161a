package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// SetFile puts a text over a file of the machine's, for the programs that are started on this host only. The file must
// be there; the machine's own stays as it is.
func (h *Host) SetFile(path, text string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	over, ok := h.files[path]
	if ok {
		return os.WriteFile(over, []byte(text), 0o644)
	}
	f, err := os.CreateTemp("/run", filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	// Mounts made before the host's first file are seen on the host, and none that is made later.
	first := h.files == nil
	err = h.Do(func() error {
		if first {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return os.NewSyscallError("unshare mounts", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("make mounts private: %w", err)
			}
			h.files = make(map[string]string)
		}
		target, err := existing(path)
		if err != nil {
			return err
		}
		return os.NewSyscallError("mount", unix.Mount(f.Name(), target, "", unix.MS_BIND, ""))
	})
	if err != nil {
		return errors.Join(fmt.Errorf("host %s: file %s: %w", h.Name, path, err), os.Remove(f.Name()))
	}
	h.files[path] = f.Name()
	return nil
}

// existing follows links. Where one leads into the machine's /run, which is not seen in the sandbox, as resolv.conf does
// under systemd, it makes a place there.
func existing(path string) (string, error) {
	target, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, os.ErrNotExist) {
		return target, err
	}
	link, linkErr := os.Readlink(path)
	if linkErr != nil {
		return "", err
	}
	if !filepath.IsAbs(link) {
		link = filepath.Join(filepath.Dir(path), link)
	}
	if !strings.HasPrefix(link, "/run/") {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return "", err
	}
	return link, os.WriteFile(link, nil, 0o644)
}

// A Name is what programs on a host find without asking a resolver.
type Name struct {
	Name string
	Addr netip.Addr
}

// SetNames makes the host's programs find these names, and localhost, in /etc/hosts, and no others.
func (h *Host) SetNames(names ...Name) error {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, n := range names {
		fmt.Fprintf(&text, "%s %s\n", n.Addr, n.Name)
	}
	return h.SetFile("/etc/hosts", text.String())
}

// SetResolvers makes the host's programs ask these resolvers, in this order. None at all means loopback's, where nobody
// listens unless the host has a resolver of its own.
func (h *Host) SetResolvers(addrs ...netip.Addr) error {
	var text strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&text, "nameserver %s\n", a)
	}
	if len(addrs) == 0 {
		text.WriteString("nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
	}
	return h.SetFile("/etc/resolv.conf", text.String())
}
