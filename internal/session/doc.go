// Package session is what survives links: the streams and packets between one device and its gateway, carried by any
// number of links that come and go.
//
//	Stream ─ chunks ─┐                     ┌─ Link ── network ── Link ─┐
//	Stream ─ chunks ─┼─ scheduler ─ ring ──┼─ Link ── network ── Link ─┼─ seen numbers ─ reassembly ─ Stream
//	packets ─────────┘                     └─ Link ── network ── Link ─┘
//
// Every numbered frame is kept in the ring until the far side has acknowledged its number, on whatever link it went and
// on whatever link the acknowledgement returns. A link that dies, or is suspected because nothing it carries is being
// acknowledged, gives its frames back to the scheduler. Striping, failing over and resuming are therefore one thing:
// a link takes the next frame when it has room. Only bulk keeps to one link as long as that carries what the path
// does, so that a keystroke finds another one free; and where links share it, what is late on one overtakes on another.
//
// Nobody waits for a goroutine on the hot path: whoever has bytes to send writes them to an idle link itself, together
// with whatever else is queued; only a link's reader never writes, so that two ends whose buffers are full cannot
// deadlock.
//
// A Session is safe for concurrent use. It never logs where streams go.
package session
