package dnsclient

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/dnsmessage"
)

// Client has questions answered by the first of several resolvers that can; it begins with the one that did the last
// time. Safe for concurrent use. Close it.
type Client struct {
	sockets Sockets
	list    func() ([]Resolver, error)
	closing sync.WaitGroup // of connections that were given up

	mu     sync.Mutex
	closed bool
	listed time.Time
	asked  []Resolver
	each   []*held // of asked
	first  int     // of each
}

// held is an Exchanger, and when it last had an answer.
type held struct {
	Exchanger
	good time.Time // or when it was made; under the client's mu
}

// NewClient returns a Client that asks resolvers in this order; none means the system's, as they are at the time.
func NewClient(s Sockets, resolvers ...Resolver) *Client {
	c := &Client{sockets: s, list: System}
	if len(resolvers) > 0 {
		c.list = func() ([]Resolver, error) { return resolvers, nil }
	}
	return c
}

// NewListClient is NewClient for resolvers that may be others each time: list is asked every few seconds while there are
// questions.
func NewListClient(s Sockets, list func() ([]Resolver, error)) *Client {
	return &Client{sockets: s, list: list}
}

const (
	// listAge is how long the list of the system's resolvers is good for.
	listAge = 5 * time.Second
	// datagramPatience is how long an answer by UDP is waited for until the next resolver, or the same again, is asked.
	datagramPatience = 1200 * time.Millisecond
	// stuck is how long a connection may owe an answer until it is taken for dead, if it has given none meanwhile.
	stuck  = 3 * time.Second
	rounds = 2
)

// resolvers looks at the list, and returns how many there are to ask and which of them is the first.
func (c *Client) resolvers() (n, first int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, 0, net.ErrClosed
	}
	if c.each != nil && time.Since(c.listed) < listAge {
		return len(c.each), c.first, nil
	}
	list, err := c.list()
	if err != nil {
		return 0, 0, err
	}
	if c.listed = time.Now(); c.each == nil || !slices.Equal(list, c.asked) {
		for _, h := range c.each { // by UDP, the system's: nothing is cut
			h.Close()
		}
		c.asked, c.each, c.first = list, make([]*held, len(list)), 0
		for i, r := range list {
			c.each[i] = &held{r.Exchanger(c.sockets), time.Now()}
		}
	}
	return len(c.each), c.first, nil
}

// Close ends the connections there are. What is asked afterwards fails.
func (c *Client) Close() {
	c.mu.Lock()
	each := c.each
	c.closed, c.each = true, nil
	c.mu.Unlock()
	for _, h := range each {
		h.Close()
	}
	c.closing.Wait()
}

// Anew has connections and the list of resolvers made anew: the network is another one.
func (c *Client) Anew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.each {
		c.closing.Go(h.Close)
	}
	c.each = nil
}

// Ask has a question answered. That a resolver has failed is an answer, if no other one has a better.
func (c *Client) Ask(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	n, first, err := c.resolvers()
	if err != nil {
		return nil, err
	}
	var poor *dnsmessage.Answer
	for i := range n * rounds {
		a, aerr := c.askOne(ctx, (first+i)%n, q)
		switch {
		case aerr != nil:
			err = aerr
		case a.Code == dnsmessage.ServFail || a.Code == dnsmessage.Refused || a.Code == dnsmessage.NotImp:
			poor = a
		default:
			return a, nil
		}
		if ctx.Err() != nil || poor != nil && i >= n-1 {
			break
		}
	}
	if poor != nil {
		return poor, nil
	}
	return nil, err
}

// askOne asks the resolver of a number.
func (c *Client) askOne(ctx context.Context, i int, q dnsmessage.Question) (*dnsmessage.Answer, error) {
	c.mu.Lock()
	if i >= len(c.each) { // the list has become shorter
		c.mu.Unlock()
		return nil, net.ErrClosed
	}
	h, r := c.each[i], c.asked[i]
	c.mu.Unlock()
	if r.kind == "udp" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, datagramPatience)
		defer cancel()
	}
	asked := time.Now()
	a, err := Exchange(ctx, h, q)
	c.mu.Lock()
	defer c.mu.Unlock()
	current := i < len(c.each) && c.each[i] == h
	switch {
	case err == nil:
		h.good = time.Now()
		if current && a.Code != dnsmessage.ServFail && a.Code != dnsmessage.Refused {
			c.first = i
		}
	case current && !c.closed && time.Since(asked) >= stuck && h.good.Before(asked):
		c.each[i] = &held{r.Exchanger(c.sockets), time.Now()}
		c.closing.Go(h.Close) // which may wait for the connection's last words
	}
	return a, err
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
