package firewall

// A Rule is one behaviour of a firewall with its parameters. One Rule serves all flows of one box, from one goroutine.
type Rule interface {
	// Watch returns who looks at the packets of a new flow, the first included; nil if the rule does not care for it.
	Watch(f *Flow) Watcher
}

// A Watcher looks at one flow for one rule.
type Watcher interface {
	// Packet is called with every packet of the flow, in the order in which they pass, until do.Done. What it wants done
	// it says to do, which is valid during the call.
	Packet(f *Flow, p *Packet, do *Action)
}

// WatchFunc makes a Watcher of a function.
type WatchFunc func(f *Flow, p *Packet, do *Action)

// Packet calls w.
func (w WatchFunc) Packet(f *Flow, p *Packet, do *Action) { w(f, p, do) }

// Place is where a box is.
type Place int

// The places.
const (
	InPath Place = iota
	OnPath
)

func (p Place) String() string {
	if p == OnPath {
		return "on-path"
	}
	return "in-path"
}

// UnmarshalText reads a place from a profile.
func (p *Place) UnmarshalText(b []byte) error {
	for _, v := range []Place{InPath, OnPath} {
		if string(b) == v.String() {
			*p = v
			return nil
		}
	}
	return errPlace
}
