package dnsclient

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

// Client has questions answered by the first of several resolvers that can. Safe for concurrent use. Close it.
type Client struct {
	sockets Sockets
	list    func() ([]Resolver, error)

	mu     sync.Mutex
	closed bool
	listed time.Time
	asked  []Resolver
	each   []Exchanger // of asked
}

// NewClient returns a Client that asks resolvers in this order; none means the system's, as they are at the time.
func NewClient(s Sockets, resolvers ...Resolver) *Client {
	c := &Client{sockets: s, list: System}
	if len(resolvers) > 0 {
		c.list = func() ([]Resolver, error) { return resolvers, nil }
	}
	return c
}

// listAge is how long the list of the system's resolvers is good for.
const listAge = 5 * time.Second

// exchangers returns those to ask, in order.
func (c *Client) exchangers() ([]Resolver, []Exchanger, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, io.ErrClosedPipe
	}
	if c.each != nil && time.Since(c.listed) < listAge {
		return c.asked, c.each, nil
	}
	list, err := c.list()
	if err != nil {
		return nil, nil, err
	}
	if c.listed = time.Now(); slices.Equal(list, c.asked) {
		return c.asked, c.each, nil
	}
	for _, e := range c.each { // by UDP, the system's: nothing is cut
		e.Close()
	}
	c.asked, c.each = list, make([]Exchanger, len(list))
	for i, r := range list {
		c.each[i] = r.Exchanger(c.sockets)
	}
	return c.asked, c.each, nil
}

// Close ends the connections there are. What is asked afterwards fails.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, e := range c.each {
		e.Close()
	}
	c.each = nil
}

const (
	// datagramPatience is how long an answer by UDP is waited for until the next resolver, or the same again, is asked.
	datagramPatience = 1200 * time.Millisecond
	rounds           = 2
)

// Ask has a question answered. An answer that the resolver failed is one, if no resolver has a better one.
func (c *Client) Ask(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	resolvers, each, err := c.exchangers()
	if err != nil {
		return nil, err
	}
	var poor *dnsmessage.Answer
	for range rounds {
		for i, e := range each {
			a, aerr := askOne(ctx, e, resolvers[i].kind == "udp", q)
			switch {
			case aerr != nil:
				err = aerr
			case a.Code == dnsmessage.ServFail || a.Code == dnsmessage.Refused || a.Code == dnsmessage.NotImp:
				poor = a
			default:
				return a, nil
			}
			if ctx.Err() != nil {
				break
			}
		}
		if poor != nil || ctx.Err() != nil {
			break
		}
	}
	if poor != nil {
		return poor, nil
	}
	return nil, err
}

func askOne(ctx context.Context, e Exchanger, datagrams bool, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	if datagrams {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, datagramPatience)
		defer cancel()
	}
	return Exchange(ctx, e, q)
}

// Exchange has one Exchanger answer a question.
func Exchange(ctx context.Context, e Exchanger, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	var id [2]byte
	rand.Read(id[:])
	var answer *dnsmessage.Answer
	var bad error
	err := e.Exchange(ctx, q.Append(nil, binary.BigEndian.Uint16(id[:])), func(b []byte) Taken {
		if !q.Answers(b) {
			return NotOurs
		}
		if dnsmessage.Truncated(b) {
			return Truncated
		}
		if answer, bad = dnsmessage.ParseAnswer(q, b); bad != nil {
			return NotOurs
		}
		return Ours
	})
	if err == nil && answer == nil {
		err = errors.Join(ErrNoAnswer, bad)
	}
	return answer, err
}
