package egress

import "strings"

// validName reports whether name, in lower case and without a trailing dot, can be a host's. A name whose last label
// is a number cannot (no top-level domain is one), and would be an address to a resolver that reads "127.1" or
// "0x7f000001" as one.
func validName(name string) bool {
	label, numeric := 0, false
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			if label == 0 || label > 63 {
				return false
			}
			numeric = isNumber(name[i-label : i])
			label = 0
			continue
		}
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			label++
		default:
			return false
		}
	}
	return !numeric && len(name) <= 253
}

// isNumber reports whether an address parser of the old school (inet_aton) would take label for a number.
func isNumber(label string) bool {
	digits := "0123456789"
	if strings.HasPrefix(label, "0x") {
		label, digits = label[2:], "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// insideName reports whether name can only mean something inside some network (RFC 6761, RFC 6762, RFC 8375, and
// ICANN's "internal"). It is all that can be checked of a name that someone else looks up.
func insideName(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch last {
	case name: // a single label: whatever the search list makes of it
		return true
	case "localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private":
		return true
	}
	return name == "home.arpa" || strings.HasSuffix(name, ".home.arpa")
}
