package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// origin is where an entry comes from: a file's number, 0 being the rules' own, and a line.
type origin uint64

func newOrigin(file, line int) origin    { return origin(uint64(file)<<32 | uint64(uint32(line))) }
func (o origin) place() (file, line int) { return int(o >> 32), int(uint32(o)) }

// set is destinations. A name is looked for by each of its suffixes, an address by each length of prefix that there is:
// what that costs does not depend on how many entries there are.
type set struct {
	below    map[string]origin // a domain, and what is below it
	exact    map[string]origin // a name alone
	prefixes map[netip.Prefix]origin
	lengths  [2][]int // of prefixes of IPv4 and IPv6, the longest first
}

func newSet() *set {
	return &set{below: make(map[string]origin), exact: make(map[string]origin), prefixes: make(map[netip.Prefix]origin)}
}

func (s *set) len() int { return len(s.below) + len(s.exact) + len(s.prefixes) }

// add adds an entry; of two that are the same the first one stays.
func (s *set) add(d destination, from origin) {
	switch {
	case d.prefix.IsValid():
		if _, ok := s.prefixes[d.prefix]; !ok {
			s.prefixes[d.prefix] = from
		}
	case d.exact:
		if _, ok := s.exact[d.domain]; !ok {
			s.exact[d.domain] = from
		}
	default:
		if _, ok := s.below[d.domain]; !ok {
			s.below[d.domain] = from
		}
	}
}

// finish makes the set ready for match.
func (s *set) finish() {
	var have [2][129]bool
	for p := range s.prefixes {
		have[family(p.Addr())][p.Bits()] = true
	}
	for f := range have {
		for bits := 128; bits >= 0; bits-- {
			if have[f][bits] {
				s.lengths[f] = append(s.lengths[f], bits)
			}
		}
	}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// match finds the entry that says most about a destination.
func (s *set) match(name string, addr netip.Addr) (entry, bool) {
	if name != "" {
		if from, ok := s.exact[name]; ok {
			return entry{domain: name, exact: true, from: from}, true
		}
		for rest := name; ; {
			if from, ok := s.below[rest]; ok {
				return entry{domain: rest, from: from}, true
			}
			i := strings.IndexByte(rest, '.')
			if i < 0 {
				break
			}
			rest = rest[i+1:]
		}
	}
	if addr.IsValid() {
		for _, bits := range s.lengths[family(addr)] {
			p, _ := addr.Prefix(bits)
			if from, ok := s.prefixes[p]; ok {
				return entry{prefix: p, from: from}, true
			}
		}
	}
	return entry{}, false
}

// destination is one entry of a list.
type destination struct {
	domain string
	exact  bool
	prefix netip.Prefix
}

// parseDestination reads a prefix, an address, or a domain.
func parseDestination(s string) (destination, error) {
	if strings.ContainsAny(s, "/:") || s != "" && strings.Trim(s, "0123456789.") == "" {
		p, err := parsePrefix(s)
		return destination{prefix: p}, err
	}
	return parseDomain(s)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%.60q is neither an address nor a prefix such as 192.0.2.0/24", s)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%.60q has bits beyond its length: write %v", s, p.Masked())
	}
	return p, nil
}

func parseDomain(s string) (destination, error) {
	name, exact := strings.CutPrefix(s, "=")
	name = strings.TrimSuffix(name, ".")
	bad := func(why string) (destination, error) {
		return destination{}, fmt.Errorf("%.60q is not a domain: %s", s, why)
	}
	if strings.HasPrefix(name, "*.") || strings.HasPrefix(name, ".") {
		return bad("write " + strings.TrimLeft(name, "*.") + ", which means all below it, too")
	}
	plain := true
	for _, c := range []byte(name) {
		plain = plain && c < 0x80
	}
	if !plain {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return bad("its letters cannot be in one")
		}
		name = ascii
	}
	if slices.ContainsFunc([]byte(name), func(c byte) bool { return c >= 'A' && c <= 'Z' }) {
		name = strings.ToLower(name)
	}
	if name == "" || len(name) > 253 {
		return bad("it has 1 to 253 letters")
	}
	label := 0
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			if label == 0 || label > 63 {
				return bad("each part has 1 to 63 letters")
			}
			label = 0
			continue
		}
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			label++
		default:
			return bad(fmt.Sprintf("%q cannot be in one", c))
		}
	}
	return destination{domain: name, exact: exact}, nil
}
