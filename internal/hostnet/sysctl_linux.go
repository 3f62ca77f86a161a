package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const procNet = "/proc/sys/net/"

// sysctl is a kernel setting that we changed; its name is a path below procNet.
type sysctl struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	Ours   string `json:"ours"`
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(procNet + name)
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(name, value string) error {
	err := os.WriteFile(procNet+name, []byte(value), 0)
	if err != nil {
		dotted := "net." + strings.ReplaceAll(name, "/", ".")
		return fmt.Errorf("kernel setting %s: %w: it must be %s; a container is started with it (--sysctl)", dotted, err, value)
	}
	return nil
}

// sysctls are the settings that are needed.
func sysctls(d Desired) (want []sysctl) {
	// Answers to marked sockets are marked by the firewall. With this a strict reverse path filter looks for the way back
	// by the same mark, and finds it.
	want = wanting(want, "ipv4/conf/all/src_valid_mark", "1")
	if !d.Router {
		return want
	}
	return append(want, forwardingSysctls()...)
}

// forwardingSysctls have the kernel forward. Turning forwarding on changes these all by itself: they are named so that they
// are put back. In IPv6 a router forgets its own default route, unless it is told before that it still heeds other routers.
func forwardingSysctls() (want []sysctl) {
	for _, dir := range each("ipv6/conf/*") {
		want = wanting(want, dir+"/accept_ra", "2", "0")
	}
	for _, dir := range append([]string{"ipv6/conf/all"}, each("ipv6/conf/*")...) {
		want = wanting(want, dir+"/forwarding", "1", "2")
	}
	want = wanting(want, forwarding4, "1")
	want = wanting(want, "ipv4/conf/all/accept_redirects", "0")
	for _, dir := range each("ipv4/conf/*") {
		want = wanting(want, dir+"/forwarding", "1")
	}
	return want
}

const (
	forwarding4 = "ipv4/conf/all/forwarding"
	forwarding6 = "ipv6/conf/all/forwarding"
)

// wanting adds a setting, unless it is one of those values, or there is none of that name.
func wanting(want []sysctl, name, value string, unless ...string) []sysctl {
	if now, err := readSysctl(name); err == nil && !slices.Contains(unless, now) {
		want = append(want, sysctl{Name: name, Ours: value})
	}
	return want
}

// each lists the interfaces of a family's settings, with "default", without "all".
func each(pattern string) (names []string) {
	found, _ := filepath.Glob(procNet + pattern)
	for _, path := range found {
		if name := strings.TrimPrefix(path, procNet); filepath.Base(name) != "all" {
			names = append(names, name)
		}
	}
	return names
}

// setSysctls changes what must be, and puts back what need not be any more.
func (h *Host) setSysctls(want []sysctl) error {
	if _, err := h.restoreSysctls(want); err != nil {
		return err
	}
	for _, s := range want {
		now, err := readSysctl(s.Name)
		if err != nil {
			continue
		}
		// Also of what is right already: turning forwarding on and off changes that too.
		if i := slices.IndexFunc(h.kept.Sysctls, func(k sysctl) bool { return k.Name == s.Name }); i < 0 {
			s.Before = now
			h.kept.Sysctls = append(h.kept.Sysctls, s)
		}
	}
	if err := h.save(); err != nil {
		return err
	}
	for _, s := range want {
		now, err := readSysctl(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // an interface that has just gone
		} else if err != nil {
			return fmt.Errorf("kernel setting: %w", err)
		}
		if now != s.Ours {
			if err := writeSysctl(s.Name, s.Ours); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreSysctls puts back all settings but those still wanted, and forgets them. What somebody else has changed since
// is theirs.
func (h *Host) restoreSysctls(wanted []sysctl) (undone []string, err error) {
	var still, back []sysctl
	for _, s := range h.kept.Sysctls {
		if slices.ContainsFunc(wanted, func(w sysctl) bool { return w.Name == s.Name }) {
			still = append(still, s)
			continue
		}
		switch now, err := readSysctl(s.Name); {
		case err != nil: // the interface has gone
		case now == s.Ours || now == s.Before:
			back = append(back, s)
		default:
			undone = append(undone, fmt.Sprintf("kernel setting net.%s was changed by another program since: left as it is",
				strings.ReplaceAll(s.Name, "/", ".")))
		}
	}
	// Some settings change others, so what is right after the first time may need to be said twice.
	changed := map[string]bool{}
	for range 2 {
		for _, s := range back {
			if now, readErr := readSysctl(s.Name); readErr == nil && now != s.Before {
				changed[s.Name] = true
				err = errors.Join(err, writeSysctl(s.Name, s.Before))
			}
		}
	}
	if err != nil {
		return undone, err
	}
	h.kept.Sysctls = still
	if len(changed) > 0 {
		undone = append(undone, "put "+count(len(changed), "kernel setting")+" back")
	}
	return undone, nil
}
