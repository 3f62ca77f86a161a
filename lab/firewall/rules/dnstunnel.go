package rules

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// DNSTunnel looks for queries that carry something: names that are long, many different ones in one zone, and types that
// browsers do not ask for.
//
// Iran, 2026-03 on: only tunnels whose names have at most 72 bytes work (SlipNet 78, net4people/bbs 586): name = 72. Nobody
// published a classifier's thresholds; unique and rare are there for the lab to choose, and say so. What is visible from
// afar is that the share of TXT at a public resolver rose from nothing to 25 % in one country (net4people/bbs 561).
type DNSTunnel struct {
	To Nets `toml:"to"` // resolvers
	// Name is how long a name may be, without its last dot; zero does not look.
	Name int `toml:"name"`
	// Unique is how many different names a client may ask for in one zone within a minute; zero does not look.
	Unique int `toml:"unique"`
	// Zone is how many labels, from the right, make a zone; zero is 2.
	Zone int `toml:"zone"`
	// Rare is the greatest share of TXT and NULL among a client's queries in a minute, once there are RareOf (zero is 20);
	// zero does not look.
	Rare   float64 `toml:"rare"`
	RareOf int     `toml:"rare-of"`
	Then   Then    `toml:"then"`

	zones   map[zoneKey]*zoneCount
	clients map[netip.Addr]*rareCount
	swept   time.Duration
	hash    maphash.Seed
}

type zoneKey struct {
	client netip.Addr
	zone   string
}

type zoneCount struct {
	begin time.Duration
	names map[uint64]struct{} // hashes, no more than Unique and one
}

type rareCount struct {
	begin     time.Duration
	all, rare int
}

func (r *DNSTunnel) check(place firewall.Place) error {
	switch {
	case r.Name < 0 || r.Name > 255:
		return wrong("name", "%d is no length of a name", r.Name)
	case r.Unique < 0:
		return wrong("unique", "%d is no number of names", r.Unique)
	case r.Zone < 0 || r.Zone > 127:
		return wrong("zone", "%d is no number of labels", r.Zone)
	case r.RareOf < 0:
		return wrong("rare-of", "%d is no number of queries", r.RareOf)
	case r.Name == 0 && r.Unique == 0 && r.Rare == 0:
		return wrong("name", "nothing is set: it wants name, unique or rare")
	}
	if err := chance("rare", r.Rare); err != nil {
		return err
	}
	r.hash = maphash.MakeSeed()
	return r.Then.check(place)
}

// Watch looks at every query of the flow.
func (r *DNSTunnel) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Server.Port() != 53 || f.Proto != firewall.UDP && f.Proto != firewall.TCP || !r.To.Covers(f.Server.Addr()) {
		return nil
	}
	return firewall.WatchFunc(r.packet)
}

func (r *DNSTunnel) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	query := p.Payload
	if f.Proto == firewall.TCP && len(query) > 2 { // one message a segment, as they come
		query = query[2:]
	}
	if !p.FromClient || len(query) == 0 {
		return
	}
	name, kind, ok := question(query)
	if !ok {
		return
	}
	r.sweep(p.At)
	switch count, zone := r.count(f.Client.Addr(), name, p.At); {
	case r.Name > 0 && len(name) > r.Name:
		r.Then.do(f, do, "a name of %d bytes", len(name))
	case r.Unique > 0 && count > r.Unique:
		r.Then.do(f, do, "more than %d names in one zone of %d labels in a minute", r.Unique, strings.Count(zone, ".")+1)
	case r.Rare > 0 && r.rare(f.Client.Addr(), kind, p.At):
		r.Then.do(f, do, "more than %.0f %% of queries are for TXT or NULL", 100*r.Rare)
	}
}

// question reads a query's first question, with the name in lower case.
func question(query []byte) (name string, kind dnsmessage.Type, ok bool) {
	var parser dnsmessage.Parser
	if h, err := parser.Start(query); err != nil || h.Response {
		return "", 0, false
	}
	q, err := parser.Question()
	if err != nil {
		return "", 0, false
	}
	return strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")), q.Type, true
}

// count takes a name in, and tells how many different ones there were in its zone.
func (r *DNSTunnel) count(client netip.Addr, name string, now time.Duration) (int, string) {
	if r.Unique == 0 {
		return 0, ""
	}
	zone := name
	for at, labels := len(name), or(r.Zone, 2); labels > 0 && at > 0; labels-- {
		at = strings.LastIndexByte(name[:at], '.')
		zone = name[at+1:]
	}
	k := zoneKey{client, zone}
	c := r.zones[k]
	if c == nil || now-c.begin > time.Minute {
		if c == nil && len(r.zones) >= maxHeld {
			return 0, zone
		}
		c = &zoneCount{begin: now, names: make(map[uint64]struct{})}
		if r.zones == nil {
			r.zones = make(map[zoneKey]*zoneCount)
		}
		r.zones[k] = c
	}
	if len(c.names) <= r.Unique {
		c.names[maphash.String(r.hash, name)] = struct{}{}
	}
	return len(c.names), zone
}

const typeNULL dnsmessage.Type = 10 // RFC 1035

func (r *DNSTunnel) rare(client netip.Addr, kind dnsmessage.Type, now time.Duration) bool {
	c := r.clients[client]
	if c == nil || now-c.begin > time.Minute {
		if c == nil && len(r.clients) >= maxHeld {
			return false
		}
		c = &rareCount{begin: now}
		if r.clients == nil {
			r.clients = make(map[netip.Addr]*rareCount)
		}
		r.clients[client] = c
	}
	c.all++
	if kind == dnsmessage.TypeTXT || kind == typeNULL {
		c.rare++
	}
	return c.all >= or(r.RareOf, 20) && float64(c.rare) > r.Rare*float64(c.all)
}

func (r *DNSTunnel) sweep(now time.Duration) {
	if now < r.swept+time.Minute {
		return
	}
	r.swept = now
	for k, c := range r.zones {
		if now-c.begin > time.Minute {
			delete(r.zones, k)
		}
	}
	for k, c := range r.clients {
		if now-c.begin > time.Minute {
			delete(r.clients, k)
		}
	}
}
