package transport

import "fmt"

// Fragment says how a client's first message is cut, on a network whose firewall reads names in it without putting it
// together. It is nothing to rely on: firewalls have learnt to, and no browser does it. The zero value leaves the message as
// the browser sends it.
type Fragment uint8

// The ways of cutting. Each cuts inside the server's name, or among the first fields where none is sent.
const (
	FragmentNone   Fragment = iota
	FragmentTCP             // one TLS record in two TCP segments or more, the second a little later than the first
	FragmentRecord          // two TLS records in one write
	FragmentBoth            // two TLS records, each in a TCP segment of its own
)

var fragmentNames = [...]string{"none", "tcp", "record", "both"}

func (f Fragment) String() string {
	if int(f) < len(fragmentNames) {
		return fragmentNames[f]
	}
	return fmt.Sprintf("fragment %d", uint8(f))
}

// MarshalText implements encoding.TextMarshaler.
func (f Fragment) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Fragment) UnmarshalText(text []byte) error {
	for i, name := range fragmentNames {
		if name == string(text) {
			*f = Fragment(i)
			return nil
		}
	}
	return fmt.Errorf("%.20q is none of none, tcp, record, both", text)
}
