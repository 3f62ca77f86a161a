// Package owner tells whose a socket of this machine is: which user made it, and in which control group. Only Linux says so;
// elsewhere nobody is known.
package owner

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Owner is who made a socket.
type Owner struct {
	UID uint32
	// Cgroup is the path of its control group below cgroup2's root, as "/user.slice/user-1000.slice"; empty if it is not known,
	// as where the group is gone.
	Cgroup string
}

// Socket is a socket of TCP or UDP as the kernel knows it: by its own address and by whom it speaks to.
type Socket struct {
	UDP           bool
	Local, Remote netip.AddrPort
}

type key struct{}

// With tells whoever gets the context which socket of an application's it is about.
func With(ctx context.Context, s Socket) context.Context { return context.WithValue(ctx, key{}, s) }

// From is the socket that With has put there; the zero Socket is none.
func From(ctx context.Context) Socket {
	s, _ := ctx.Value(key{}).(Socket)
	return s
}

const (
	// keep is how long an answer is good for: a port may be another program's by then.
	keep = 15 * time.Second
	// most bounds what is kept; when there is more, all of it is forgotten.
	most = 8192
)

// Table remembers the answers about UDP sockets, each of whose packets is asked about. The zero Table is ready. Safe for
// concurrent use.
type Table struct {
	mu    sync.Mutex
	known map[Socket]answer
}

type answer struct {
	Owner
	ok    bool
	until time.Time
}

// Of asks who made a socket. It is not ok for sockets that are not this machine's, or are gone.
func (t *Table) Of(s Socket) (o Owner, ok bool) {
	if !s.Local.IsValid() {
		return o, false
	}
	if !s.UDP {
		return ask(s) // once for each connection
	}
	now := time.Now()
	t.mu.Lock()
	a, known := t.known[s]
	t.mu.Unlock()
	if known && now.Before(a.until) {
		return a.Owner, a.ok
	}
	a = answer{}
	// A packet forwarded for others may have the port of a socket that is bound to no address, which the kernel takes for it.
	if isLocal(s.Local.Addr()) {
		a.Owner, a.ok = ask(s)
	}
	a.until = now.Add(keep)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= most {
		t.known = make(map[Socket]answer)
	}
	t.known[s] = a
	return a.Owner, a.ok
}

// isLocal reports whether an address is this machine's.
func isLocal(a netip.Addr) bool {
	addrs, _ := net.InterfaceAddrs()
	return a.IsLoopback() || slices.ContainsFunc(addrs, func(of net.Addr) bool {
		n, ok := of.(*net.IPNet)
		own, _ := netip.AddrFromSlice(n.IP)
		return ok && own.Unmap() == a.WithZone("")
	})
}
