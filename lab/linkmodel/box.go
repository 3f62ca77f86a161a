package linkmodel

import "time"

// A Box looks at every frame that arrives at a Forwarder, before the path, and decides what goes on: a firewall is one.
type Box interface {
	// Frame gets an Ethernet frame that arrived at now (monotonic, since Run began, never falling), travelling forward
	// (from the first interface to the second) or backward. Calls are serialised. What is not emitted is dropped. The
	// frame may be written to; it is the caller's again after the call, and emit is of no use then.
	Frame(now time.Duration, forward bool, frame []byte, emit Emit)
}

// Emit sends a frame on, in either direction, after a wait of its own (0: at once); it then meets that direction's path.
// frame is copied.
type Emit func(forward bool, after time.Duration, frame []byte)
