package egress

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// Dial connects to t, or fails with an *flow.Error. Several addresses are tried as in RFC 8305: the families take
// turns, the next one starts when one has failed or 250 ms have passed, the first to connect wins. If all fail, the
// error is the one that tells most about the destination.
func (s *Sockets) Dial(ctx context.Context, t flow.Target) (net.Conn, error) {
	s.counters.dials.Add(1)
	conn, err := s.dial(ctx, t)
	if err != nil {
		s.counters.dialsFailed.Add(1)
		if err.Code == flow.CodeDenied {
			s.counters.dialsDenied.Add(1)
		}
		return nil, err
	}
	return conn, nil
}

func (s *Sockets) dial(ctx context.Context, t flow.Target) (net.Conn, *flow.Error) {
	t, err := flow.NewTarget(t.Host, t.Port) // one spelling of each name: "host." is "host"
	if err != nil {
		return nil, toError(err)
	}
	if t == flow.ResolverTarget {
		return s.serveQuestions()
	}
	if s.policy.closed[t.Port] {
		return nil, flow.Errorf(flow.CodeDenied, "%s", closedPort)
	}
	if s.ctx.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if s.upstream != nil {
		return s.dialUpstream(ctx, t)
	}
	addrs, err := s.addrsOf(ctx, t)
	if err != nil {
		return nil, toError(err)
	}
	addrs, err = s.pick(addrs, func(a netip.Addr) *flow.Error { return s.admit(netip.AddrPortFrom(a, t.Port)) })
	if err != nil {
		return nil, toError(err)
	}
	return s.race(ctx, interleave(addrs, maxDials), t.Port)
}

// interleave makes the families take turns, beginning with the first address's, and keeps the order within each.
func interleave(addrs []netip.Addr, most int) []netip.Addr {
	var lists [2][]netip.Addr
	for _, a := range addrs {
		i := 0
		if familyOf(a) != familyOf(addrs[0]) {
			i = 1
		}
		lists[i] = append(lists[i], a)
	}
	var out []netip.Addr
	for len(out) < most && len(lists[0])+len(lists[1]) > 0 {
		if len(lists[0]) > 0 {
			out, lists[0] = append(out, lists[0][0]), lists[0][1:]
		}
		lists[0], lists[1] = lists[1], lists[0]
	}
	return out
}

// race dials addrs, which are admitted, and returns the first connection. The losers' sockets are closed soon after.
func (s *Sockets) race(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, *flow.Error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result) // not buffered: who finds nobody listening any more closes what it has
	start := func(a netip.Addr) bool {
		return s.goRun(func() {
			conn, err := s.dialOne(ctx, netip.AddrPortFrom(a, port))
			select {
			case results <- result{conn, err}:
			case <-ctx.Done():
				if err == nil {
					conn.Close()
				}
			}
		})
	}
	stagger := time.NewTimer(0)
	defer stagger.Stop()
	var worst *flow.Error
	for next, running := 0, 0; next < len(addrs) || running > 0; {
		select {
		case <-stagger.C:
			if next == len(addrs) {
				continue
			}
			if !start(addrs[next]) {
				return nil, errClosed
			}
			next++
			running++
			stagger.Reset(dialStagger)
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			running--
			if err := toError(r.err); worst == nil || tells(err.Code) > tells(worst.Code) {
				worst = err
			}
			stagger.Reset(0)
		case <-ctx.Done():
			err := ctxError(ctx, "connecting")
			if s.ctx.Err() != nil {
				err = errClosed
			}
			if worst != nil && tells(worst.Code) > tells(err.Code) {
				return nil, worst
			}
			return nil, err
		}
	}
	return nil, worst
}

// tells ranks codes by how much they say about the destination, for when several addresses fail differently. That we
// have no sockets left comes before what another address said, because that may be all that was wrong.
func tells(c flow.Code) int {
	switch c {
	case flow.CodeLocalShutdown:
		return 8
	case flow.CodeBusy:
		return 7
	case flow.CodeRefused:
		return 6
	case flow.CodeReset:
		return 5
	case flow.CodeHostUnreach:
		return 4
	case flow.CodeTimeout:
		return 3
	case flow.CodeDenied:
		return 2
	case flow.CodeNetUnreach:
		return 1
	}
	return 0
}

// toError gives err its code and none of its text, which may hold the destination.
func toError(err error) *flow.Error {
	if fe, ok := err.(*flow.Error); ok {
		return fe
	}
	return &flow.Error{Code: flow.CodeOf(err)}
}

// connect dials one address. The policy is asked again by control, about the address the socket is given.
func (s *Sockets) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	network, d := "tcp4", &s.dialer[0]
	if familyOf(to.Addr()) == flow.IPv6 {
		network, d = "tcp6", &s.dialer[1]
	}
	conn, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	// A packet filter may have turned us round, to this machine or to this very socket.
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok && local.AddrPort().Addr().Unmap() == to.Addr().Unmap() {
		if _, allowed := s.policy.refuse(to); !allowed || local.AddrPort().Port() == to.Port() {
			conn.Close()
			return nil, flow.Errorf(flow.CodeDenied, "%s", ownAddress)
		}
	}
	return conn, nil
}

// control sees every TCP socket before it connects.
func (s *Sockets) control(_ context.Context, network, address string, c syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errBadTarget
	}
	if err := s.admit(to); err != nil {
		return err
	}
	if s.cfg.Source4.IsValid() && network == "tcp4" || s.cfg.Source6.IsValid() && network == "tcp6" {
		bindLate(c)
	}
	return nil
}

// goRun runs f in a goroutine that Close waits for. It reports false, and does not, once Close has begun.
func (s *Sockets) goRun(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}
