package dns

import (
	"errors"
	"fmt"
	"strings"
)

// Names are case-folded by resolvers, or shuffled on purpose, so they hold base32 (RFC 4648, section 6) in lower case
// without padding, in labels as long as labels can be.
const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

const maxLabel = 63

var errName = errors.New("not a name of ours")

// nameRoom is how many bytes a name of at most max letters under a zone can hold.
func nameRoom(max int, zone string) int {
	n := max - len(zone) - 1
	if n <= 0 {
		return 0
	}
	return (n - n/(maxLabel+1)) * 5 / 8
}

// appendName appends data as a name under zone, with its last dot. Data must not be empty and must fit.
func appendName(b []byte, data []byte, zone string) []byte {
	var bits uint32
	var have, label int
	put := func(v uint32) {
		if label == maxLabel {
			b = append(b, '.')
			label = 0
		}
		b = append(b, alphabet[v&31])
		label++
	}
	for _, c := range data {
		bits = bits<<8 | uint32(c)
		for have += 8; have >= 5; {
			have -= 5
			put(bits >> have)
		}
	}
	if have > 0 {
		put(bits << (5 - have))
	}
	b = append(b, '.')
	b = append(b, zone...)
	return append(b, '.')
}

// parseName returns what a name holds, in whatever case it came.
func parseName(name, zone string) ([]byte, error) {
	name = strings.TrimSuffix(name, ".")
	at := len(name) - len(zone) - 1
	if at <= 0 || at >= MaxName || name[at] != '.' || !strings.EqualFold(name[at+1:], zone) {
		return nil, errName
	}
	data := make([]byte, 0, at*5/8)
	var bits uint32
	var have, label int
	for i := range at {
		c := name[i]
		var v byte
		switch {
		case c == '.':
			if label != maxLabel { // only one way to write the same
				return nil, errName
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z':
			v = c - 'a'
		case c >= 'A' && c <= 'Z':
			v = c - 'A'
		case c >= '2' && c <= '7':
			v = c - '2' + 26
		default:
			return nil, errName
		}
		if label++; label > maxLabel {
			return nil, errName
		}
		bits = bits<<5 | uint32(v)
		if have += 5; have >= 8 {
			have -= 8
			data = append(data, byte(bits>>have))
		}
	}
	if label == 0 || have >= 5 || bits&(1<<have-1) != 0 {
		return nil, errName
	}
	return data, nil
}

// CheckZone says what is wrong with a zone, which is written without its last dot.
func CheckZone(zone string) error {
	if len(zone) < 3 || len(zone) > 100 {
		return fmt.Errorf("zone %q: it must have 3 to 100 letters", zone)
	}
	labels := strings.Split(zone, ".")
	if len(labels) < 2 {
		return fmt.Errorf("zone %q: it must be below a domain, as t.example.com", zone)
	}
	for _, l := range labels {
		if l == "" || len(l) > maxLabel || l[0] == '-' || l[len(l)-1] == '-' ||
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return fmt.Errorf("zone %q: %q is no label of letters, digits and hyphens", zone, l)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Errorf("zone %q: it is an address, not a domain", zone)
	}
	return nil
}
