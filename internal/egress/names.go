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
