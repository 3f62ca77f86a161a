// Package sysctl changes the kernel's network settings, and puts them back as they were. What somebody else has changed since is theirs.
package sysctl

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

// Setting is a kernel setting; its name is a path below procNet.
type Setting struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	Ours   string `json:"ours"`
}

// Read reads a setting.
func Read(name string) (string, error) {
	b, err := os.ReadFile(procNet + name)
	return strings.TrimSpace(string(b)), err
}

// Write changes a setting, and forgets what it was.
func Write(name, value string) error {
	err := os.WriteFile(procNet+name, []byte(value), 0)
	if err != nil {
		dotted := "net." + strings.ReplaceAll(name, "/", ".")
		return fmt.Errorf("kernel setting %s: %w: it must be %s; a container is started with it (--sysctl)", dotted, err, value)
	}
	return nil
}

// Forwarding are settings that have the kernel forward. Turning forwarding on changes these all by itself: they are named so that they
// are put back. In IPv6 a router forgets its own default route, unless it is told before that it still heeds other routers.
func Forwarding() (want []Setting) {
	for _, dir := range each("ipv6/conf/*") {
		want = Want(want, dir+"/accept_ra", "2", "0")
	}
	for _, dir := range append([]string{"ipv6/conf/all"}, each("ipv6/conf/*")...) {
		want = Want(want, dir+"/forwarding", "1", "2")
	}
	want = Want(want, Forwarding4, "1")
	want = Want(want, "ipv4/conf/all/accept_redirects", "0")
	for _, dir := range each("ipv4/conf/*") {
		want = Want(want, dir+"/forwarding", "1")
	}
	return want
}

// Whether the machine forwards at all.
const (
	Forwarding4 = "ipv4/conf/all/forwarding"
	Forwarding6 = "ipv6/conf/all/forwarding"
)

// Want adds a setting, unless it is one of those values, or there is none of that name.
func Want(want []Setting, name, value string, unless ...string) []Setting {
	if now, err := Read(name); err == nil && !slices.Contains(unless, now) {
		want = append(want, Setting{Name: name, Ours: value})
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

// HasIPv6 reports whether this machine speaks IPv6 at all.
func HasIPv6() bool {
	off, err := Read("ipv6/conf/lo/disable_ipv6")
	return err == nil && off == "0"
}

// Changed are the settings that we have changed, and how they were.
type Changed []Setting

// Set changes what must be, and puts back what need not be any more. What was before is saved in between: save is to put c on the disk.
func (c *Changed) Set(want []Setting, save func() error) error {
	if _, err := c.Restore(want); err != nil {
		return err
	}
	for _, s := range want {
		now, err := Read(s.Name)
		if err != nil {
			continue
		}
		// Also of what is right already: turning forwarding on and off changes that too.
		if i := slices.IndexFunc(*c, func(k Setting) bool { return k.Name == s.Name }); i < 0 {
			s.Before = now
			*c = append(*c, s)
		}
	}
	if err := save(); err != nil {
		return err
	}
	for _, s := range want {
		now, err := Read(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // an interface that has just gone
		} else if err != nil {
			return fmt.Errorf("kernel setting: %w", err)
		}
		if now != s.Ours {
			if err := Write(s.Name, s.Ours); err != nil {
				return err
			}
		}
	}
	return nil
}

// Restore puts back all settings but those still wanted, and forgets them. What somebody else has changed since
// is theirs.
func (c *Changed) Restore(wanted []Setting) (undone []string, err error) {
	var still, back []Setting
	for _, s := range *c {
		if slices.ContainsFunc(wanted, func(w Setting) bool { return w.Name == s.Name }) {
			still = append(still, s)
			continue
		}
		switch now, err := Read(s.Name); {
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
			if now, readErr := Read(s.Name); readErr == nil && now != s.Before {
				changed[s.Name] = true
				err = errors.Join(err, Write(s.Name, s.Before))
			}
		}
	}
	if err != nil {
		return undone, err
	}
	*c = still
	if len(changed) > 0 {
		what := "kernel settings"
		if len(changed) == 1 {
			what = "kernel setting"
		}
		undone = append(undone, fmt.Sprintf("put %d %s back", len(changed), what))
	}
	return undone, nil
}
