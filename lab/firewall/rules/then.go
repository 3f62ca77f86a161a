package rules

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Then is what a rule does once it has found what it looks for, in a profile's table "then".
type Then struct {
	// Drop swallows the packet in hand.
	Drop bool `toml:"drop"`
	// Reset has injectors forge packets that end the connection, all in parallel.
	Reset []Injector `toml:"reset"`
	// Block, if set, is what becomes blocked for a while; see firewall.Block for the rest.
	Block  *firewall.Scope `toml:"block"`
	Way    firewall.Way    `toml:"way"`
	Wait   Lag             `toml:"wait"`
	For    Span            `toml:"for"` // zero is for ever
	Extend bool            `toml:"extend"`
	Fixed  bool            `toml:"fixed"`
	Pass   [2]int          `toml:"pass"` // between so many packets
	Chance float64         `toml:"chance"`
	Data   bool            `toml:"data"`
	// Again has the block's packets answered by the injectors instead of dropped.
	Again bool `toml:"again"`
	// Rewrite has the block's packets lose what they carry and become RST+ACK instead of dropped.
	Rewrite bool `toml:"rewrite"`
	// Rate, in bits a second, has the block's packets policed, each direction by itself and with Throttle's burst, instead of
	// all dropped.
	Rate int `toml:"rate"`
	// AllProtocols blocks more than the protocol it was found in.
	AllProtocols bool `toml:"all-protocols"`
	// Probe hands the server to the active prober.
	Probe bool `toml:"probe"`
}

func (t *Then) check(place firewall.Place) error {
	switch {
	case t.Drop && place == firewall.OnPath:
		return wrong("then.drop", "a box that sees a copy cannot drop: block, and name the box that drops")
	case t.Rewrite && place == firewall.OnPath:
		return wrong("then.rewrite", "a box that sees a copy cannot change it")
	case t.Rate != 0 && place == firewall.OnPath:
		return wrong("then.rate", "a box that sees a copy cannot police")
	case t.Rate < 0:
		return wrong("then.rate", "%d is no number of bits a second", t.Rate)
	case t.Rewrite && t.Again:
		return wrong("then.rewrite", "and again exclude each other")
	case t.Rate != 0 && (t.Rewrite || t.Again):
		return wrong("then.rate", "and again, or rewrite, exclude each other")
	case t.Block == nil && (t.Again || t.Rewrite || t.Rate != 0 || t.Extend || t.Fixed || t.Data || t.Way != 0 || t.For != Span{} || t.Wait != Lag{} ||
		t.Pass != [2]int{} || t.Chance != 0):
		return wrong("then.block", "is missing: it says what the other fields are about")
	case t.Again && len(t.Reset) == 0:
		return wrong("then.again", "needs injectors in then.reset")
	case t.Pass[0] > t.Pass[1] || t.Pass[0] < 0:
		return wrong("then.pass", "wants the least and the most, as [5, 8]")
	case !t.Drop && len(t.Reset) == 0 && t.Block == nil && !t.Probe:
		return wrong("then", "does nothing: it wants drop, reset, block or probe")
	case t.Block != nil && *t.Block == firewall.Network:
		return wrong("then.block", "a network cannot be found from one connection: use address")
	}
	return chance("then.chance", t.Chance)
}

// do does it. The detail says what was found.
func (t *Then) do(f *firewall.Flow, do *firewall.Action, detail string, args ...any) {
	do.Fired(detail, args...)
	if t.Drop {
		do.Drop()
	}
	t.reset(f, do)
	if t.Probe {
		do.Suspect(fmt.Sprintf(detail, args...))
	}
	if t.Block == nil {
		return
	}
	b := firewall.Block{Scope: *t.Block, Way: t.Way, Wait: t.Wait.draw(f), For: f.Between(t.For.Low, t.For.High), Extend: t.Extend, Fixed: t.Fixed,
		Chance: t.Chance, Data: t.Data, Pass: t.Pass[0] + f.IntN(t.Pass[1]-t.Pass[0]+1)}
	if !t.AllProtocols {
		b.Proto = f.Proto
	}
	if t.Again {
		b.Data = true
		b.Forge = func(f *firewall.Flow, _ *firewall.Packet, do *firewall.Action) { t.reset(f, do) }
	}
	if t.Rewrite {
		b.Forge = rewrite
	}
	if t.Rate > 0 {
		b.Forge = police(t.Rate)
	}
	do.Block(b)
}

// rewrite is what Russia's boxes do to a server's packets (class SNI-I; Xue et al., IMC 2022): numbers, time to live and
// all else stay.
func rewrite(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	do.Drop()
	if p.Proto != firewall.TCP {
		return
	}
	r := do.Next(p.FromClient, firewall.RST|firewall.ACK)
	r.TTL, r.ID, r.DF, r.Window = p.TTL, p.ID, p.DF, p.Window
	do.Send(r)
}

// police drops what is above a rate, in each direction by itself.
func police(rate int) func(*firewall.Flow, *firewall.Packet, *firewall.Action) {
	var toServer, toClient bucket
	return func(_ *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		b := &toClient
		if p.FromClient {
			b = &toServer
		}
		if !b.take(p.At, p.Size, rate, policeBurst) {
			do.Drop()
		}
	}
}

func (t *Then) reset(f *firewall.Flow, do *firewall.Action) {
	for _, i := range t.Reset {
		i.forge(f, do)
	}
}

// Injector is one of the machines that forge resets, by the fingerprints of their packets.
type Injector struct {
	name       string
	flags      uint8
	count      int
	clientOnly bool
	id         [2]uint16
	df         bool
	ttl        [2]uint8
	payload    []byte
	// The packets come min to max later, mean on average.
	min, mean, max time.Duration
}

const ms = time.Millisecond

// injectors are as seen in China and Iran: gfw-1 to gfw-3 and henan by Wu et al., IEEE S&P 2025, table of fingerprints;
// iran by Tai et al., USENIX Security 2025; storm by net4people/bbs 511.
var injectors = []Injector{
	{name: "gfw-1", flags: firewall.RST, count: 1, ttl: [2]uint8{55, 118}, min: 11500 * time.Microsecond, mean: 18 * ms, max: 445 * ms},
	{name: "gfw-2", flags: firewall.RST | firewall.ACK, count: 3, id: [2]uint16{0x00a3, 0xfe5f}, df: true, ttl: [2]uint8{39, 238},
		min: 11500 * time.Microsecond, mean: 18 * ms, max: 445 * ms},
	{name: "gfw-3", flags: firewall.RST | firewall.ACK, count: 1, id: [2]uint16{0x9916, 0x9933}, ttl: [2]uint8{248, 248},
		min: 11500 * time.Microsecond, mean: 18 * ms, max: 445 * ms},
	{name: "henan", flags: firewall.RST | firewall.ACK, count: 1, clientOnly: true, id: [2]uint16{1, 1}, ttl: [2]uint8{58, 58},
		payload: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 0}, min: 2300 * time.Microsecond, mean: 2800 * time.Microsecond, max: 30500 * time.Microsecond},
	{name: "iran", flags: firewall.RST | firewall.ACK, count: 1, ttl: [2]uint8{64, 64}},
	{name: "storm", flags: firewall.RST | firewall.ACK, count: 3, df: true, ttl: [2]uint8{60, 60}},
}

// UnmarshalText finds an injector.
func (i *Injector) UnmarshalText(b []byte) error {
	var names []string
	for _, known := range injectors {
		if known.name == string(b) {
			*i = known
			return nil
		}
		names = append(names, known.name)
	}
	return errors.New("is no injector; there are " + strings.Join(names, ", "))
}

// lag draws when a forged packet comes: the least plus an exponential wait, capped.
func (i *Injector) lag(f *firewall.Flow) time.Duration { return exponential(f, i.min, i.mean, i.max) }

func exponential(f *firewall.Flow, least, mean, most time.Duration) time.Duration {
	wait := -math.Log(1-float64(f.IntN(1<<20))/(1<<20)) * float64(mean-least)
	return min(least+time.Duration(wait), most)
}

func (i *Injector) forge(f *firewall.Flow, do *firewall.Action) {
	if f.Proto != firewall.TCP {
		return
	}
	lag := i.lag(f)
	for _, toServer := range []bool{false, true} {
		if toServer && i.clientOnly {
			continue
		}
		for n := range i.count {
			p := do.Next(toServer, i.flags)
			p.After, p.DF, p.Payload = lag, i.df, i.payload
			p.TTL = i.ttl[0] + uint8(f.IntN(int(i.ttl[1]-i.ttl[0])+1)) + uint8(n)
			p.ID = i.id[0] + uint16(f.IntN(int(i.id[1]-i.id[0])+1))
			if n > 0 { // each further packet is a guess at how far the ends have come meanwhile
				p.Seq += uint32(n) * 1460
			}
			do.Send(p)
		}
	}
}
