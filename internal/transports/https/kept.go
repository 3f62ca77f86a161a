package https

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	tls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// kept are the session tickets that a client keeps in memory, to come back as a browser does that has not been closed since.
// A ticket is used once, so that nobody on the way sees the same twice, and only on the network where it was given, since
// whoever sees both networks' traffic and could ask the gateway would learn who moved between them; and only where the same
// keys are pinned, so that it is shown to no other gateway. The zero value is empty. Safe for concurrent use.
//
// A resumed session is the gateway's as the first one was: the key that was shown then is compared with the pins again, the
// keys are exchanged anew (psk_dhe_ke, X25519MLKEM768), and nothing is sent before the handshake is complete.
type kept struct {
	mu  sync.Mutex
	all []keptTicket // oldest first
}

type keptTicket struct {
	place   place
	at      time.Time
	session *tls.ClientSessionState
}

// place is what a browser would know a website by, on one network, and the keys it may have.
type place struct {
	browser             chrome.Family
	network, addr, name string
	pins                [sha256.Size]byte
}

func placeOf(browser *chrome.Browser, ep transport.Endpoint) place {
	h := sha256.New()
	for _, pin := range ep.Pins {
		h.Write(pin[:])
	}
	return place{browser.Family(), ep.Network, ep.Addr, ep.Name, [sha256.Size]byte(h.Sum(nil))}
}

const (
	mostKept = 64 // of all places: a client has few gateways, and few networks a day
	// mostAtPlace is BoringSSL's in Chrome: a second connection at the same time comes back, too.
	mostAtPlace = 2
	// keptFor is how old a ticket may become. A gateway takes it for a week, but whoever steals the key of tickets can
	// play the gateway for that long to whoever still has one.
	keptFor = 24 * time.Hour
)

// take returns the newest ticket for a place, which nobody gets again, or nil.
func (k *kept) take(p place, now time.Time) *tls.ClientSessionState {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = slices.DeleteFunc(k.all, func(t keptTicket) bool {
		age := now.Sub(t.at)
		return age < 0 || age > keptFor
	})
	for i := len(k.all) - 1; i >= 0; i-- {
		if k.all[i].place == p {
			session := k.all[i].session
			k.all = slices.Delete(k.all, i, i+1)
			return session
		}
	}
	return nil
}

// put keeps a ticket, and forgets the oldest where there are too many.
func (k *kept) put(p place, now time.Time, session *tls.ClientSessionState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = append(k.all, keptTicket{p, now, session})
	here := 0
	for i := len(k.all) - 1; i >= 0; i-- {
		if k.all[i].place != p {
			continue
		}
		if here++; here > mostAtPlace {
			k.all = slices.Delete(k.all, i, i+1)
		}
	}
	if len(k.all) > mostKept {
		k.all = slices.Delete(k.all, 0, len(k.all)-mostKept)
	}
}

// forget forgets all of them.
func (k *kept) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = nil
}

// cache is what one connection has of kept: the engine's own key for it, which has no network in it, means nothing.
// It implements tls.ClientSessionCache.
type cache struct {
	kept  *kept
	place place
}

// Get implements tls.ClientSessionCache.
func (c cache) Get(string) (*tls.ClientSessionState, bool) {
	session := c.kept.take(c.place, wall())
	return session, session != nil
}

// Put implements tls.ClientSessionCache. Nil would be to forget a ticket, which Get has done.
func (c cache) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		c.kept.put(c.place, wall(), session)
	}
}

// wall is the time that goes on while the machine sleeps.
func wall() time.Time { return time.Now().Round(0) }
