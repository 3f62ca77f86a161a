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

// A Tap sees a frame as it passes one of the two interfaces: when it arrives, before the Box, or when it leaves, after
// the path. First says which interface. It is called on two threads, keeps them waiting, must not call the Forwarder, and
// must not keep or change the frame.
type Tap func(at time.Time, first, arriving bool, frame []byte)
