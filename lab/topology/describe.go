package topology

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

// Description says what Build makes. Parse reads one from text, String writes it.
type Description struct {
	// Seed makes what the links do by chance repeatable; each firewall has chances of its own.
	Seed      uint64
	Inside    []Host
	Firewalls []Firewall // from inside to outside; none at all is a plain cable
	Outside   []Host
}

// Host is a machine with one interface.
type Host struct {
	Name string
	// Addrs are all reserved for documentation. Connections start from the first of each family.
	Addrs []netip.Addr
}

// Firewall is a Forwarder in a namespace of its own.
type Firewall struct {
	Name string
	// Forward is inside to outside.
	Forward, Backward linkmodel.Direction
}

// The routers that every world has.
const (
	ISP      = "isp"
	Exchange = "exchange"
)

// More would be a mistake rather than a wish: a host is a thread, and a firewall has rings of 32 MB.
const (
	maxHosts     = 200
	maxFirewalls = 8
)

// documentation is RFC 5737, RFC 3849 and RFC 9637.
var documentation = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("3fff::/20"),
}

// Validate names the first host or firewall, and its field, that makes no sense. Parse calls it line by line.
func (d *Description) Validate() error {
	c := newChecker()
	for _, hosts := range [][]Host{d.Inside, d.Outside} {
		for _, h := range hosts {
			if err := c.host(h); err != nil {
				return err
			}
		}
	}
	for _, f := range d.Firewalls {
		if err := c.firewall(f); err != nil {
			return err
		}
	}
	return nil
}

// checker remembers what must not come twice.
type checker struct {
	names            map[string]bool
	addrs            map[netip.Addr]string // whose
	hosts, firewalls int
}

func newChecker() *checker {
	return &checker{names: map[string]bool{ISP: true, Exchange: true}, addrs: make(map[netip.Addr]string)}
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (c *checker) name(kind, name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%s %q: name: use a letter, then up to 30 small letters, digits and -", kind, name)
	}
	if c.names[name] {
		return fmt.Errorf("%s %s: name: taken already", kind, name)
	}
	c.names[name] = true
	return nil
}

func (c *checker) host(h Host) error {
	if err := c.name("host", h.Name); err != nil {
		return err
	}
	if c.hosts++; c.hosts > maxHosts {
		return fmt.Errorf("host %s: more than %d hosts", h.Name, maxHosts)
	}
	if len(h.Addrs) == 0 {
		return fmt.Errorf("host %s: address: none given", h.Name)
	}
	for _, a := range h.Addrs {
		if err := reserved(a); err != nil {
			return fmt.Errorf("host %s: address %v: %w", h.Name, a, err)
		}
		if other, ok := c.addrs[a]; ok {
			return fmt.Errorf("host %s: address %v: %s has it", h.Name, a, other)
		}
		c.addrs[a] = h.Name
	}
	return nil
}

func reserved(a netip.Addr) error {
	for _, p := range documentation {
		if p.Contains(a) {
			return nil
		}
	}
	return errors.New("not reserved for documentation: use 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32 or 3fff::/20")
}

func (c *checker) firewall(f Firewall) error {
	if err := c.name("firewall", f.Name); err != nil {
		return err
	}
	if c.firewalls++; c.firewalls > maxFirewalls {
		return fmt.Errorf("firewall %s: more than %d firewalls", f.Name, maxFirewalls)
	}
	if err := (linkmodel.Spec{Forward: f.Forward, Backward: f.Backward}).Validate(); err != nil {
		return fmt.Errorf("firewall %s: %w", f.Name, err)
	}
	return nil
}
