package client

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/dialer"
	"github.com/godwit-vpn/godwit/internal/network"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports"
)

// networksFile is where it is kept which ways work on which network.
const networksFile = "networks.json"

// keepEvery is how often that is written while it changes.
const keepEvery = time.Minute

// findWays makes the ways out of the access key's endpoints and the transports that this program knows.
func (c *Client) findWays(set read) error {
	for _, d := range transports.Dialers(transports.Options{Resolvers: set.resolvers, Network: c.cfg.networkResolvers,
		Congestion: c.cfg.Congestion, Control: c.protect}) {
		c.dialers[d.Transport()] = d
	}
	var list []dialer.Way
	for i, ep := range c.cfg.Key.Endpoints {
		name, addr := transports.Place(ep)
		if c.dialers[name] == nil || len(c.cfg.Transports) > 0 && !slices.Contains(c.cfg.Transports, name) {
			continue // one of a newer Godwit, or not wanted
		}
		c.places = append(c.places, place{ep, i + 1})
		list = append(list, dialer.Way{Transport: name, Addr: addr})
	}
	if len(list) == 0 {
		return &FieldError{"Transports", fmt.Errorf("the access key has no endpoint of %s", strings.Join(c.cfg.Transports, ", "))}
	}
	c.ways, c.wayErr = dialer.New(list), make([]error, len(list))
	var path string
	if c.cfg.StateDir != "" {
		path = filepath.Join(c.cfg.StateDir, networksFile)
	}
	// The device's key signs a text that nothing else signs: a secret that only this device can make again.
	secret := sha256.Sum256(c.identity.key.Sign([]byte("godwit networks v1\x00")))
	memory, err := dialer.OpenMemory(path, secret[:])
	if err != nil {
		c.log.Warn("what worked on which network is forgotten", "err", err)
	}
	c.memory = memory
	return nil
}

// failure tells a dial that was struck from one that nobody answered.
func failure(err error) dialer.Failure {
	var de *transport.DialError
	if errors.As(err, &de) && (de.Stage == transport.StageHandshake || de.Stage == transport.StageDoor) {
		return dialer.Struck
	}
	return dialer.Unreachable
}

// haveLocked lists the links as the dialer wants them.
func (c *Client) haveLocked(st session.Status) []dialer.Link {
	var have []dialer.Link
	for _, l := range st.Links {
		if r := c.links[l.ID]; r != nil && !l.Draining {
			have = append(have, dialer.Link{Way: r.way, Suspected: l.Suspected})
		}
	}
	return have
}

// waysLocked is what status says of the ways.
func (c *Client) waysLocked() []Way {
	now := time.Now()
	all := make([]Way, c.ways.Len())
	for i := range all {
		k := c.ways.Known(i)
		w := Way{Transport: c.ways.Way(i).Transport, Endpoint: c.places[i].number, State: "untried",
			Failures: c.ways.Failures(i, now), Worked: k.Worked, Outdone: c.ways.Beaten(i, now)}
		switch {
		case now.Before(k.Until):
			w.State, w.Until = "struck", k.Until
		case w.Failures > 0:
			w.State = "failed"
		case !k.Worked.IsZero():
			w.State = "works"
		}
		switch {
		case c.ways.Blocked(i, now):
			w.Found = "blocked"
		case c.ways.Slow(i, now):
			w.Found = "slow"
		}
		if err := c.wayErr[i]; err != nil {
			w.Error = redact(err)
		}
		all[i] = w
	}
	for _, r := range c.links {
		all[r.way].Links++
	}
	return all
}

// Finding is what an examination of the network, as godwit doctor's, has shown of one of the ways to the gateway.
type Finding = dialer.Found

// Steering is what a client makes of findings.
type Steering struct {
	// First is the way that it would dial now if it had no link.
	First Way `json:"first"`
	// Ways are all of them, as in Status.
	Ways []Way `json:"ways"`
}

// errUnknownNetwork is how findings are refused that nothing could be kept of.
var errUnknownNetwork = errors.New("this machine is on no network that could be told from others")

// Steer has the client heed what was found on the present network: a blocked way is dialled last, a slow one after the good
// ones. It takes the place of what was found before, and is kept in StateDir, so that a Client need not run for it; but no
// other one may run on that directory.
func (c *Client) Steer(found []Finding) (Steering, error) {
	c.mu.Lock()
	running, unknown := c.running, c.network == (network.State{})
	c.mu.Unlock()
	if unknown {
		c.lookAtNetwork(true)
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.network.Name() == "" && !running {
		return Steering{}, errUnknownNetwork
	}
	c.ways.Steer(found, now)
	c.kept = now
	err := c.memory.Keep(c.network.Name(), c.ways, now)
	first, _ := c.ways.Next(now, nil, nil)
	ways := c.waysLocked()
	c.tell(c.poke) // perhaps to another way than it waits for
	return Steering{First: ways[first], Ways: ways}, err
}

// place is where a way leads.
type place struct {
	accesskey.Endpoint
	number int // in the access key, from 1
}

// anewLocked forgets what kept the client from dialling.
func (c *Client) anewLocked() {
	c.nextDial, c.attempts, c.young = time.Time{}, 0, 0
	c.ways.Forget()
}

// tryLinks has all links probed, and Run look again.
func (c *Client) tryLinks() {
	for _, s := range c.sessions() {
		s.Probe()
	}
	c.tell(c.poke)
	c.tell(c.changed)
}

// lookAtNetwork finds out whether the machine has come to another network, and if so recalls what is known of it. What is
// known of the present one is kept now and then. Unless it must, it does not look again so soon.
func (c *Client) lookAtNetwork(must bool) bool {
	now := time.Now()
	c.mu.Lock()
	if !must && now.Sub(c.looked) < lookEvery/2 {
		c.mu.Unlock()
		return false
	}
	c.looked = now
	c.mu.Unlock()
	state := network.Now(c.cfg.Protect)
	c.mu.Lock()
	defer c.mu.Unlock()
	if state.Router == "" && state.Local4 == c.network.Local4 {
		state.Router = c.network.Router // the system forgets it when it has not been spoken to for a while
	}
	if state == c.network || state == (network.State{}) { // without any network there is nothing to be done anew
		if c.ways.Changed() && now.Sub(c.kept) > keepEvery {
			c.keepLocked(now)
		}
		return false
	}
	first := c.network == (network.State{})
	if c.network.Name() != state.Name() {
		c.keepLocked(now)
		c.memory.Recall(state.Name(), c.ways, now)
	}
	// Whose the router's hardware address is the system knows once it has been spoken to: that is no other network.
	learned := c.network.Router == "" && c.network.Local4 == state.Local4 && c.network.Local6 == state.Local6
	c.network = state
	if first || learned {
		return false
	}
	for _, d := range c.dialers {
		if f, ok := d.(interface{ Forget() }); ok {
			f.Forget() // what it knows of the network that was
		}
	}
	if r := c.resolver.Load(); r != nil {
		r.Anew()
	}
	c.log.Info("the machine has another network, or another address")
	return true
}

// networkNow names the network that the machine is in at this moment, for what must not be used on another one; empty if
// that cannot be told for sure, or it is not the one that was last looked at.
func (c *Client) networkNow() string {
	state := network.Now(c.cfg.Protect)
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != c.network {
		return ""
	}
	return state.Sure()
}

// keepNetwork keeps what is known of the present network.
func (c *Client) keepNetwork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ways.Changed() {
		c.keepLocked(time.Now())
	}
}

func (c *Client) keepLocked(now time.Time) {
	c.kept = now
	if err := c.memory.Keep(c.network.Name(), c.ways, now); err != nil {
		c.log.Warn("what works on this network could not be kept", "err", err)
	}
}
