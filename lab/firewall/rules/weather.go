package rules

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Mood is what a firewall does for a while.
type Mood int

// The moods. Whatever is lost is lost both ways, silently, for as long as the mood lasts.
const (
	Calm           Mood = iota
	ResetBulk           // every connection that carries much is reset, or lost if it is UDP
	LoseConnection      // the connection that carries the most is lost
	LoseEndpoint        // what goes to its server's address and port is
	LoseAddress         // what goes to its server's address is
	NoUDP               // all UDP is
	Slow                // TCP to port 443 is policed, each connection and direction by itself
	FreezeNew           // a connection that begins now is lost after 25 packets, for good; the one that carries the most is reset
	NoSYN               // no TCP connection begins; the one that carries the most is reset
	Shut                // nothing passes
	Policed             // see Police; no forecast has it
)

func (m Mood) String() string {
	return [...]string{"calm", "bulk reset", "connection lost", "endpoint lost", "address lost", "no UDP", "port 443 slow", "new ones frozen",
		"no SYN", "border shut", "policed"}[m]
}

// What moods do it with. Freezes and rates are Freeze's and Throttle's, the rate twice the latter's.
const (
	slowRate  = 260_000 // bits a second
	freezesAt = 25
)

// Weather is a firewall that changes its rules while traffic passes: a scenario sets its mood. It is not set in a box's
// table.
type Weather struct {
	mu     sync.Mutex
	mood   Mood
	turn   int  // which mood in a row
	found  bool // whom it strikes: the one that was first to carry a large packet
	client netip.AddrPort
	server netip.AddrPort
	met    int
	first  time.Time

	rate               int // of Policed, in bits a second
	together           bool
	toServer, toClient bucket
}

// Police holds each connection to a rate in bits a second, in each direction by itself, or all of them together: what is
// above it is lost.
func (r *Weather) Police(rate int, together bool) {
	r.Set(Policed)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rate, r.together = rate, together
}

// Set changes the mood.
func (r *Weather) Set(m Mood) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mood, r.found, r.met, r.first = m, false, 0, time.Time{}
	r.turn++
}

// Met says how many packets the present mood has met, and when the first.
func (r *Weather) Met() (packets int, first time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.met, r.first
}

// Watch looks at all that begins inside.
func (r *Weather) Watch(f *firewall.Flow) firewall.Watcher {
	if !f.FromInside {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &underWeather{rule: r, frozen: r.mood == FreezeNew}
}

type underWeather struct {
	rule               *Weather
	frozen             bool // it is, once it has had its packets
	reset              bool
	turn               int
	carried            int // bytes from the server before this turn
	toServer, toClient bucket
}

// Packet implements firewall.Watcher.
func (w *underWeather) Packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	r := w.rule
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.turn != r.turn {
		w.turn, w.carried = r.turn, f.FromServer.Bytes
	}
	bulk := !p.FromClient && len(p.Payload) >= large
	first := bulk && !r.found
	if first {
		r.found, r.client, r.server = true, f.Client, f.Server
	}
	meets, reset := false, false
	switch r.mood {
	case ResetBulk:
		reset = bulk && f.FromServer.Bytes-w.carried >= after
	case LoseConnection:
		meets = r.found && f.Client == r.client && f.Server == r.server
	case LoseEndpoint:
		meets = r.found && f.Server == r.server
	case LoseAddress:
		meets = r.found && f.Server.Addr() == r.server.Addr()
	case NoUDP:
		meets = f.Proto == firewall.UDP
	case Slow:
		meets = f.Proto == firewall.TCP && f.Server.Port() == 443 && !w.bucket(p).take(p.At, p.Size, slowRate, policeBurst)
	case Policed:
		meets = !w.bucket(p).take(p.At, p.Size, r.rate, policeBurst)
	case FreezeNew:
		reset = first && !w.frozen
	case NoSYN:
		reset = first
		meets = f.Proto == firewall.TCP && p.FromClient && p.Is(firewall.SYN)
	case Shut:
		meets = true
	}
	if reset && !w.reset {
		w.reset, meets = true, true
		do.Drop() // before Next, which says then what is expected instead of it
		for _, toServer := range []bool{false, true} {
			if f.Proto == firewall.TCP {
				do.Send(do.Next(toServer, firewall.RST|firewall.ACK))
			}
		}
	}
	late := w.reset || w.frozen && f.FromClient.Packets+f.FromServer.Packets > freezesAt
	meets = meets || late && r.mood == FreezeNew
	if meets || late { // what one mood did to a connection, the next does not undo
		do.Drop()
	}
	if meets {
		if r.met++; r.met == 1 {
			r.first = time.Now()
			do.Fired("%v", r.mood)
		}
	}
}

// bucket is the one that a packet takes from.
func (w *underWeather) bucket(p *firewall.Packet) *bucket {
	toServer, toClient := &w.toServer, &w.toClient
	if w.rule.mood == Policed && w.rule.together {
		toServer, toClient = &w.rule.toServer, &w.rule.toClient
	}
	if p.FromClient {
		return toServer
	}
	return toClient
}

// Spell is a mood and its time.
type Spell struct {
	Mood Mood
	// At is when it begins, For how long it lasts.
	At, For time.Duration
}

// How long moods last, and the calm between them.
const (
	shortestSpell, longestSpell = 5 * time.Second, 30 * time.Second
	longestShut                 = 10 * time.Second
)

// Forecast draws spells for a time: every mood comes once before any comes again, in an order and for times that the seed
// decides, with calm before each and at the end.
func Forecast(seed uint64, length time.Duration) (spells []Spell) {
	rng := rand.New(rand.NewPCG(seed, 0))
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(rng.Int64N(int64((high-low)/time.Millisecond)+1))*time.Millisecond
	}
	var bag []Mood
	for at := between(shortestSpell, longestSpell/2); ; at += between(shortestSpell, longestSpell/2) {
		if len(bag) == 0 {
			for m := ResetBulk; m <= Shut; m++ {
				bag = append(bag, m)
			}
			rng.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		longest := longestSpell
		if bag[0] == Shut {
			longest = longestShut
		}
		s := Spell{Mood: bag[0], At: at, For: between(shortestSpell, longest)}
		if s.At+s.For > length-shortestSpell {
			return spells
		}
		bag = slices.Delete(bag, 0, 1)
		spells = append(spells, s)
		at += s.For
	}
}
