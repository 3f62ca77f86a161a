package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// network is what lies between the client and the gateway: it forwards TCP connections, and cuts one when told to. New
// ones always pass.
type network struct {
	l  *net.TCPListener
	to string // the gateway

	wg    sync.WaitGroup
	mu    sync.Mutex
	pipes map[*pipe]struct{}
	ended bool
}

// pipe is one connection across the network.
type pipe struct {
	client, gateway *net.TCPConn
	down            atomic.Int64 // bytes passed to the client
	hole            chan struct{}
	once            sync.Once
}

func newNetwork() (*network, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("making the network: %w", err)
	}
	return &network{l: l, pipes: make(map[*pipe]struct{})}, nil
}

// run forwards to the gateway until ctx is done.
func (n *network) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, n.end)
	defer stop()
	defer n.wg.Wait()
	defer n.end()
	for {
		c, err := n.l.AcceptTCP()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("the network: %w", err)
		}
		n.wg.Go(func() { n.forward(c) })
	}
}

// end lets go of everything.
func (n *network) end() {
	n.l.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	for p := range n.pipes {
		p.close()
	}
}

func (n *network) forward(c *net.TCPConn) {
	g, err := net.Dial("tcp", n.to)
	if err != nil {
		c.Close()
		return
	}
	p := &pipe{client: c, gateway: g.(*net.TCPConn), hole: make(chan struct{})}
	defer p.close()
	n.mu.Lock()
	if n.ended {
		n.mu.Unlock()
		return
	}
	n.pipes[p] = struct{}{}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.pipes, p)
		n.mu.Unlock()
	}()
	var up sync.WaitGroup
	up.Go(func() {
		p.carry(p.gateway, p.client, nil)
		p.gateway.CloseWrite()
	})
	p.carry(p.client, p.gateway, &p.down)
	p.client.CloseWrite()
	up.Wait()
}

// carry forwards from one end to the other until either is gone. Into a hole nothing more goes, and nobody is told.
func (p *pipe) carry(to, from *net.TCPConn, count *atomic.Int64) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-p.hole:
			p.wait(from)
			return
		default:
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
			if count != nil {
				count.Add(int64(n))
			}
		}
		if err != nil {
			if err != io.EOF {
				p.reset() // it travels on
			}
			return
		}
	}
}

// wait swallows what still comes from one end, until the network ends.
func (p *pipe) wait(from *net.TCPConn) { io.Copy(io.Discard, from) }

// reset cuts the connection as a firewall does that sends resets to both ends.
func (p *pipe) reset() {
	p.client.SetLinger(0)
	p.gateway.SetLinger(0)
	p.close()
}

// swallow makes a black hole of the connection: nothing passes any more, and nothing tells either end.
func (p *pipe) swallow() { p.once.Do(func() { close(p.hole) }) }

func (p *pipe) close() {
	p.client.Close()
	p.gateway.Close()
}

// counts returns what each connection has passed to the client so far.
func (n *network) counts() map[*pipe]int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make(map[*pipe]int64, len(n.pipes))
	for p := range n.pipes {
		all[p] = p.down.Load()
	}
	return all
}

// busiest is the connection that passed the most to the client since the counts were taken; nil if none did.
func (n *network) busiest(since map[*pipe]int64) *pipe {
	var best *pipe
	var most int64
	for p, now := range n.counts() {
		if d := now - since[p]; d > most {
			best, most = p, d
		}
	}
	return best
}
