package survey

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
)

// Lookup is what the system's resolver said of an endpoint's name.
type Lookup struct {
	Addresses []string     `json:"addresses"`
	Took      milliseconds `json:"ms"`
	Error     string       `json:"error,omitempty"`
}

// Connect is one TCP connection.
type Connect struct {
	Address string       `json:"address"`
	Took    milliseconds `json:"ms"`
	Error   string       `json:"error,omitempty"`
}

const (
	lookupTimeout  = 10 * time.Second
	connectTimeout = 10 * time.Second
	// perFamily is how many addresses of a family are tried: a name behind a CDN can have many.
	perFamily = 2
)

// reach finds the endpoint's addresses and connects to them. It returns the first connection, and where that goes to;
// nil if there is none.
func (s *surveyor) reach(ctx context.Context, ep accesskey.Endpoint, e *Endpoint) (net.Conn, string) {
	addrs := s.lookup(ctx, ep, e)
	type family struct {
		name      string
		good, bad []string
		err       error // the last one
	}
	families := []*family{{name: "IPv4"}, {name: "IPv6"}}
	_, port, _ := net.SplitHostPort(ep.Addr())
	var first net.Conn
	var at string
	for _, a := range addrs {
		f := families[0]
		if a.Is6() {
			f = families[1]
		}
		if len(f.good)+len(f.bad) == perFamily {
			continue
		}
		addr := net.JoinHostPort(a.String(), port)
		s.doing("connecting to " + addr)
		c, d, err := s.connect(ctx, addr, connectTimeout)
		if ctx.Err() != nil {
			break
		}
		done := Connect{Address: addr, Took: ms(d)}
		if err != nil {
			done.Error = why(err)
			f.err, f.bad = err, append(f.bad, a.String()+": "+why(err))
		} else {
			f.good = append(f.good, a.String()+" answers after "+took(d))
			if first == nil {
				first, at = c, addr
			} else {
				c.Close()
			}
		}
		e.Connects = append(e.Connects, done)
	}
	for _, f := range families {
		c := Check{Name: f.name, Outcome: Good, Detail: strings.Join(append(f.good, f.bad...), ", ")}
		switch {
		case c.Detail == "":
			continue
		case f.err == nil:
		case first != nil:
			c.Outcome, c.Next = Warning, "another address works, so this costs time at most"
			if f.name == "IPv6" && noRoute(f.err) {
				c.Next = "this machine has no IPv6: IPv4 is enough"
			}
		default:
			c.Outcome, c.Next = Failed, connectNext(f.err, port)
		}
		s.check(ctx, e, c)
	}
	if ctx.Err() != nil && first != nil {
		first.Close()
		return nil, ""
	}
	return first, at
}

// lookup looks the endpoint's name up, as a client does; an address is itself.
func (s *surveyor) lookup(ctx context.Context, ep accesskey.Endpoint, e *Endpoint) []netip.Addr {
	if a, err := netip.ParseAddr(ep.Host); err == nil {
		return []netip.Addr{a}
	}
	s.doing("looking up " + ep.Host)
	within, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	began := time.Now()
	addrs, err := net.DefaultResolver.LookupNetIP(within, "ip", ep.Host)
	e.Lookup = &Lookup{Addresses: []string{}, Took: ms(time.Since(began))}
	if err != nil {
		var dns *net.DNSError
		text := why(err)
		if errors.As(err, &dns) {
			text = dns.Err // without the name and the server
		}
		e.Lookup.Error = text
		s.check(ctx, e, Check{"name", Failed, text, "is this machine online, and the name right? If it is found elsewhere, " +
			"this network's resolver hides it: use another one, or ask for a key with an address in it"})
		return nil
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
		e.Lookup.Addresses = append(e.Lookup.Addresses, addrs[i].String())
	}
	s.check(ctx, e, Check{"name", Good, strings.Join(e.Lookup.Addresses, ", "), ""})
	return addrs
}

func (s *surveyor) connect(ctx context.Context, addr string, within time.Duration) (net.Conn, time.Duration, error) {
	s.space(ctx)
	began := time.Now()
	c, err := (&net.Dialer{Timeout: within, KeepAlive: -1}).DialContext(ctx, "tcp", addr)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		err = context.DeadlineExceeded
	}
	return c, time.Since(began), err
}

func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.Is(err, syscall.EADDRNOTAVAIL)
}

// connectNext says what a connection that was not made can mean.
func connectNext(err error, port string) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens on port " + port +
			" there: on the gateway, 'godwit gateway status' tells whether it runs"
	case timedOut(err):
		return "the address is blocked from here, the machine is down, or its own firewall drops port " + port +
			": try from another network, and 'godwit gateway status' on the gateway"
	case noRoute(err):
		return "this machine has no way to such addresses: is it online?"
	}
	return "try from another network"
}

// hostPort is an address with another port.
func hostPort(addr string, port uint16) string {
	host, _, _ := net.SplitHostPort(addr)
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
