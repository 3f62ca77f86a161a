package proxy

import (
	"bytes"
	"errors"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// socks serves a SOCKS5 client from its greeting to its end.
func (c *conn) socks() {
	if !c.socksGreet() {
		return
	}
	cmd, to, err := readRequest(c.read)
	switch {
	case errors.Is(err, errAddrType):
		c.socksRefuse(replyNoAddrType)
	case errors.Is(err, errSocks):
		c.socksRefuse(replyFailure)
	case err != nil: // gone, or too late
	case cmd == cmdConnect:
		c.requested()
		c.socksConnect(to)
	case cmd == cmdAssociate:
		c.requested()
		c.associate(to)
	default: // BIND asks for a listening port at the gateway's address, which no flow.Outside has
		c.socksRefuse(replyNoCommand)
	}
}

// socksGreet agrees on a method and, if one must, checks the login.
func (c *conn) socksGreet() bool {
	offered, err := readGreeting(c.read)
	if err != nil {
		return false
	}
	method := byte(methodNone)
	if c.sv.cfg.Auth != nil {
		method = methodLogin
	}
	if !bytes.Contains(offered, []byte{method}) {
		if method == methodLogin {
			c.sv.unauthenticated.Add(1)
		}
		c.Write([]byte{socks5Version, methodRefused})
		c.finish()
		return false
	}
	if _, err := c.Write([]byte{socks5Version, method}); err != nil {
		return false
	}
	if method == methodNone {
		return true
	}
	user, password, err := readLogin(c.read)
	if err != nil {
		return false
	}
	if !c.sv.cfg.Auth.admits(user, password) {
		c.sv.unauthenticated.Add(1)
		c.Write([]byte{loginVersion, 1})
		c.finish()
		return false
	}
	_, err = c.Write([]byte{loginVersion, 0})
	return err == nil
}

// socksRefuse answers with a reply that is not success, and closes.
func (c *conn) socksRefuse(reply byte) {
	c.requested()
	c.Write(appendReply(nil, reply, netip.AddrPort{}))
	c.finish()
}

func (c *conn) socksConnect(to address) {
	target, err := to.target()
	if err != nil {
		c.socksRefuse(socksReply(flow.CodeOf(err)))
		return
	}
	ctx, stop := c.watch()
	st, early, err := c.sv.open(ctx, target)
	gone := ctx.Err() != nil
	stop()
	switch {
	case gone:
		if err == nil {
			abandon(st)
		}
		reset(c.tcp)
		return
	case err != nil:
		c.socksRefuse(socksReply(flow.CodeOf(err)))
		return
	}
	// The bound address would be the gateway's; it is not ours to tell, and no client uses it after CONNECT.
	if _, err := c.Write(appendReply(nil, replySucceeded, netip.AddrPort{})); err != nil {
		abandon(st)
		return
	}
	c.sv.tunnel(c, st, early, nil)
}

// refuseSocks4 answers "rejected": version 0, code 91, six bytes without meaning.
func (c *conn) refuseSocks4() {
	c.requested()
	c.sv.unintelligible.Add(1)
	c.Write([]byte{0, 91, 0, 0, 0, 0, 0, 0})
	c.finish()
}
