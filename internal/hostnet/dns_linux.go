package hostnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/hostnet/kept"
)

// resolv is what resolv.conf was before we wrote it, and what we wrote.
type resolv struct {
	Link   string      `json:"link,omitempty"` // what it pointed to, if it was a symbolic link
	Absent bool        `json:"absent,omitempty"`
	Text   []byte      `json:"text,omitempty"` // also what a link led to
	Mode   fs.FileMode `json:"mode,omitempty"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	Ours   []byte      `json:"ours"`
}

// setDNS has programs ask the resolvers that are desired: by way of systemd-resolved, if that is whom they ask, or else
// by writing resolv.conf. Whoever asks others is captured all the same.
func (h *Host) setDNS(d Desired) error {
	if len(d.DNS) == 0 {
		if _, err := h.restoreDNS(); err != nil {
			return err
		}
		return h.save()
	}
	now, err := readResolv(h.resolvConf())
	if err != nil {
		return err
	}
	if asksResolved(now) {
		if tool, err := exec.LookPath("resolvectl"); err == nil {
			if d.Tun == "" {
				return nil // it asks by interface; what it asks meanwhile is blocked
			}
			if h.tellResolved(tool, d.Tun, d.DNS) == nil {
				return nil
			}
		}
	}
	var text bytes.Buffer
	fmt.Fprintln(&text, "# Written by Godwit while it carries this machine's traffic. 'godwit down' puts back what was here;")
	fmt.Fprintln(&text, "# after a crash, 'godwit rescue' does.")
	for _, a := range d.DNS {
		fmt.Fprintln(&text, "nameserver", a)
	}
	ours := text.Bytes()
	if before := h.kept.Resolv; before != nil && bytes.Equal(now.Text, before.Ours) {
		if bytes.Equal(ours, before.Ours) {
			return nil
		}
		now = *before // other resolvers than at first
	}
	// Whatever somebody else has put there since is what they want after us.
	now.Ours = ours
	h.kept.Resolv = &now
	if err := h.save(); err != nil {
		return err
	}
	return h.putResolv(ours, 0o644, -1, -1)
}

func (h *Host) resolvConf() string { return filepath.Join(h.etc, "resolv.conf") }
func (h *Host) resolvTemp() string { return filepath.Join(h.etc, ".resolv.conf.godwit") }

// readResolv reads the file as it is.
func readResolv(path string) (r resolv, err error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return resolv{Absent: true}, nil
	} else if err != nil {
		return r, err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		if r.Link, err = os.Readlink(path); err != nil {
			return r, err
		}
	}
	r.Mode = fi.Mode().Perm()
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		r.UID, r.GID = int(st.Uid), int(st.Gid)
	}
	r.Text, err = os.ReadFile(path)
	if r.Link != "" && errors.Is(err, fs.ErrNotExist) {
		err = nil // it leads nowhere
	}
	return r, err
}

// putResolv writes the file: anew, or in place where it cannot be replaced, as in a container that has it mounted.
func (h *Host) putResolv(text []byte, mode fs.FileMode, uid, gid int) error {
	err := kept.ReplaceFile(h.resolvTemp(), h.resolvConf(), text, mode, uid, gid)
	if err == nil {
		return nil
	}
	f, inPlace := os.OpenFile(h.resolvConf(), os.O_WRONLY|os.O_TRUNC, 0)
	if inPlace != nil {
		return errors.Join(err, inPlace)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// restoreDNS puts back what was there, and forgets it. It says what it found to do.
func (h *Host) restoreDNS() (undone []string, err error) {
	if h.resolved != "" {
		iface, _, _ := strings.Cut(h.resolved, " ")
		if _, err := os.Stat("/sys/class/net/" + iface); err == nil { // what it was told goes with the interface
			if err := resolvectl("resolvectl", "revert", iface); err != nil {
				return nil, err
			}
		}
		h.resolved = ""
	}
	if r, err := readResolv(h.resolvConf()); err == nil && h.kept.Tun != "" && asksResolved(r) {
		if tool, err := exec.LookPath("resolvectl"); err == nil {
			_ = resolvectl(tool, "flush-caches") // it keeps what the tunnel's resolver has said as the networks' own answers
		}
	}
	before := h.kept.Resolv
	if before == nil {
		return nil, nil
	}
	_ = os.Remove(h.resolvTemp())
	now, err := readResolv(h.resolvConf())
	if err != nil {
		return nil, fmt.Errorf("resolv.conf: %w", err)
	}
	switch {
	case now.Absent == before.Absent && now.Link == before.Link && bytes.Equal(now.Text, before.Text):
		// We never came to it.
	case !bytes.Equal(now.Text, before.Ours):
		undone = []string{"resolv.conf was changed by another program since: left as it is"}
	default:
		if err := h.putBack(before, now); err != nil {
			return nil, fmt.Errorf("resolv.conf: %w", err)
		}
		undone = []string{"put resolv.conf back"}
	}
	h.kept.Resolv = nil
	return undone, nil
}

func (h *Host) putBack(before *resolv, now resolv) error {
	switch {
	case before.Absent:
		return os.Remove(h.resolvConf())
	case before.Link == "" || now.Link == before.Link: // still a link: it was written in place
		return h.putResolvAs(before, now)
	}
	if err := os.Symlink(before.Link, h.resolvTemp()); err != nil {
		return err
	}
	if err := os.Rename(h.resolvTemp(), h.resolvConf()); err != nil {
		return errors.Join(err, os.Remove(h.resolvTemp()))
	}
	return kept.SyncDir(h.etc)
}

func (h *Host) putResolvAs(before *resolv, now resolv) error {
	if now.Link != "" {
		return os.WriteFile(h.resolvConf(), before.Text, 0)
	}
	return h.putResolv(before.Text, before.Mode, before.UID, before.GID)
}

// asksResolved reports whether resolv.conf leads to systemd-resolved.
func asksResolved(r resolv) bool {
	if strings.HasSuffix(r.Link, "systemd/resolve/stub-resolv.conf") {
		return true
	}
	found := false
	for line := range strings.Lines(string(r.Text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if f[1] != "127.0.0.53" && f[1] != "127.0.0.54" {
				return false
			}
			found = true
		}
	}
	return found
}

// tellResolved has systemd-resolved ask for all names by the TUN.
func (h *Host) tellResolved(tool, tun string, dns []netip.Addr) error {
	servers := make([]string, len(dns))
	for i, a := range dns {
		servers[i] = a.String()
	}
	told := tun + " " + strings.Join(servers, " ")
	if h.resolved == told && h.heeded(dns) {
		return nil
	}
	for _, args := range [][]string{
		append([]string{"dns", tun}, servers...),
		{"domain", tun, "~."}, // all names; where other interfaces say so, too, both are asked, and captured
		{"default-route", tun, "yes"},
	} {
		if err := resolvectl(tool, args...); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		// Whatever the machine asks of its networks: no certificate is for our address, and signatures do not come along. Both are
		// the gateway's affair.
		{"dnsovertls", tun, "no"},
		{"dnssec", tun, "no"},
		{"flush-caches"}, // of what the network's resolver has said
	} {
		_ = resolvectl(tool, args...)
	}
	h.resolved = told
	return nil
}

// heeded reports whether systemd-resolved still asks those that it was told, where it says so: others speak to it, too.
func (h *Host) heeded(dns []netip.Addr) bool {
	text, err := os.ReadFile(h.asked)
	if err != nil {
		return true
	}
	now := nameservers(text)
	return !slices.ContainsFunc(dns, func(a netip.Addr) bool { return !slices.Contains(now, a) })
}

func resolvectl(tool string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	// What systemd is told of a service, the service tells it.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "NOTIFY_SOCKET=") })
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("resolvectl %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}
