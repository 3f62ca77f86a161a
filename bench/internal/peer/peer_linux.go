// Package peer knows how to run each thing that is measured: where its program comes from, how it is configured, and
// how its two ends are started on the hosts of a topology.Net. Peers are separate programs, never linked in.
//
// To add one, write a file with a type that is a Peer and put it into Find.
package peer

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Peer is one way of getting from client to target, for one measurement: it is started once. What it writes goes into
// Site.Dir, which vanishes with the sandbox.
type Peer interface {
	// Proxy is the SOCKS5 address that its client serves on the client host; empty if it captures traffic below TCP.
	Proxy() string
	// Gateway starts the gateway's end and returns when it listens; nil if there is none.
	Gateway(ctx context.Context, s *Site) (*Process, error)
	// Client starts the client's end and returns as soon as it can do no more to speed it up; nil if there is none.
	Client(ctx context.Context, s *Site) (*Process, error)
}

// Info is what a report says about a peer.
type Info struct {
	Version  string `json:"version"`
	Settings string `json:"settings"`
}

// Entry is a peer that can be asked for by name.
type Entry struct {
	Name string
	// Prepare finds or builds the program; it runs outside the sandbox, where there is a network. Check runs inside
	// and says why the peer cannot work there. Either error means that the peer is skipped, and why.
	Prepare func(ctx context.Context, t *Tools) (Info, error)
	Check   func() error
	New     func(t *Tools) Peer
}

// Names lists what Find knows; godwit-N is Godwit with N links.
func Names() []string {
	return []string{"direct", "wireguard", "sb-reality", "sb-trojan", "sb-hysteria2", "godwit", "godwit-2", "godwit-3"}
}

// Find looks a peer up.
func Find(name string) (Entry, error) {
	if links, ok := strings.CutPrefix(name, "godwit-"); ok || name == "godwit" {
		n := 1
		if ok {
			var err error
			if n, err = strconv.Atoi(links); err != nil || n < 1 {
				return Entry{}, fmt.Errorf("peer %q: want godwit-N with N links", name)
			}
		}
		return godwitEntry(name, n), nil
	}
	entries := []Entry{
		directEntry, wireguardEntry,
		singboxEntry("sb-reality", reality), singboxEntry("sb-trojan", trojan), singboxEntry("sb-hysteria2", hysteria2),
	}
	if i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name }); i >= 0 {
		return entries[i], nil
	}
	return Entry{}, fmt.Errorf("no peer %q: there are %s", name, strings.Join(Names(), ", "))
}
