// Package transport is the contract every way across answers to. A transport gets bytes to a gateway and back inside
// TLS 1.3 whose server key it has checked against the pin; it knows nothing of doors, devices or sessions.
//
// transporttest is the suite an implementation must pass.
package transport

import (
	"context"
	"errors"
	"net"
	"time"
)

// Conn is one established connection of a transport: ordered bytes both ways inside TLS 1.3.
//
// Close unblocks Read and Write, which then fail with an error that matches net.ErrClosed. One Read and one Write may
// run at once. Write hands its bytes to the network before it returns, in as few system calls as it can, and does not
// keep the slice.
type Conn interface {
	net.Conn
	// Export returns n bytes of keying material that only the two ends of this very connection can compute
	// (RFC 8446 §7.5). It may be called at any time after the handshake.
	Export(label string, context []byte, n int) ([]byte, error)
	// ServerKey is the SHA-256 of the SubjectPublicKeyInfo that the server end showed, the same at both ends.
	ServerKey() [32]byte
}

// NonBlocking is a Conn whose writes need never wait for the network, so that nobody is stuck in a connection that a
// firewall has frozen. Found by assertion.
type NonBlocking interface {
	// OnDrained makes Write and WriteBatch return at once from now on: what the network does not take is kept by the
	// Conn, Backlog reports true, and nothing more may be written until the kept bytes are gone. Then drained is called
	// on a goroutine of its own, which may write. It must be called before the first Write.
	OnDrained(drained func())
	// Backlog reports whether bytes are kept.
	Backlog() bool
}

// Tuned is a Conn whose unsent bytes in the kernel can be bounded. Found by assertion.
type Tuned interface {
	// Measure tells what the kernel knows of the connection's path; the zero Path is "nothing". Called every now and then
	// while the connection is busy, it also is when the transport looks after its congestion control.
	Measure() Path
	// SetUnsentLimit bounds the bytes that were written but have not yet left this machine. Best effort.
	SetUnsentLimit(bytes int)
	// Congestion names the congestion control in use, as read back from the kernel; empty if unknown.
	Congestion() string
}

// Path is what a kernel knows of a connection's path.
type Path struct {
	RTT, LeastRTT time.Duration // as it is, smoothed, and as it was at its best
	Sent, Resent  uint64        // segments since the connection began
}

// Endpoint is one place a gateway can be reached at.
type Endpoint struct {
	// Addr is host:port. A host that is a name is looked up by the transport.
	Addr string
	// Name is the server name sent in the handshake; empty sends none.
	Name string
	// Pins are the SHA-256 hashes of the acceptable SubjectPublicKeyInfos: the current and perhaps the next one.
	Pins [][32]byte
}

// Dialer opens connections of one transport. Safe for concurrent use.
type Dialer interface {
	// Transport is the transport's name as in access keys, status and logs.
	Transport() string
	// Dial returns only when the handshake is complete and the pin has matched. Its errors are *DialError.
	Dial(ctx context.Context, ep Endpoint) (Conn, error)
}

// Listener accepts connections of one transport whose handshake is complete. Close unblocks Accept, which then fails
// with an error that matches net.ErrClosed.
type Listener interface {
	Accept() (Conn, error)
	Addr() net.Addr
	Close() error
}

// Stage says how far a dial came.
type Stage string

// The stages, in order.
const (
	StageLookup    Stage = "lookup"    // finding the address
	StageConnect   Stage = "connect"   // TCP's or QUIC's own connection
	StageHandshake Stage = "handshake" // TLS
	StagePin       Stage = "pin"       // the server's key is not the one the access key names
	StageDoor      Stage = "door"      // the door did not open
)

// ErrPin is matched when whoever answered holds another key than the gateway's. Nothing of ours was sent to it.
var ErrPin = errors.New("the server's key is not the gateway's")

// DialError says where a dial stopped.
type DialError struct {
	Transport string
	Stage     Stage
	Err       error
}

func (e *DialError) Error() string {
	return e.Transport + ": " + string(e.Stage) + ": " + e.Err.Error()
}
func (e *DialError) Unwrap() error { return e.Err }

// HandshakeTimeout bounds everything before a link carries frames, on both sides.
const HandshakeTimeout = 15 * time.Second

// BatchWriter is a Conn that writes several slices in as few records and system calls as it can. Found by assertion.
type BatchWriter interface {
	// WriteBatch writes bufs in order, as one Write of them all would, and keeps none of them.
	WriteBatch(bufs [][]byte) error
}

// WriteBatch writes bufs to c in order, in one go where c can.
func WriteBatch(c net.Conn, bufs [][]byte) error {
	if bw, ok := c.(BatchWriter); ok {
		return bw.WriteBatch(bufs)
	}
	for _, b := range bufs {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
	return nil
}
