// Package transport is the contract every way across answers to. A transport gets bytes to a gateway and back inside
// TLS 1.3 whose server key it has checked against the pin. It hides a knock in what it sends first and, at the gateway,
// hands on only the connections whose knock a Door takes; what either means it does not know.
//
// transporttest is the suite an implementation must pass.
package transport

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"time"
)

// Secured is what a TLS handshake leaves behind.
type Secured interface {
	// Export returns n bytes of keying material that only the two ends of this very connection can compute
	// (RFC 8446 §7.5). It may be called at any time after the handshake.
	Export(label string, context []byte, n int) ([]byte, error)
	// ServerKey is the SHA-256 of the SubjectPublicKeyInfo that the server end showed, the same at both ends.
	ServerKey() [32]byte
}

// Conn is one established connection of a transport: ordered bytes both ways inside TLS 1.3, behind the knock.
//
// Close unblocks Read and Write, which then fail with an error that matches net.ErrClosed. One Read and one Write may
// run at once. Write hands its bytes to the network before it returns, in as few system calls as it can, and does not
// keep the slice.
type Conn interface {
	net.Conn
	Secured
	// Knock is what the client knocked with, the same at both ends but for what the transport added behind it.
	Knock() []byte
}

// MaxKnock is how long a knock can be, in bytes: what fits into a cookie of ordinary size.
const MaxKnock = 357

// Opener is what a client gives a transport to open a connection with.
type Opener interface {
	// Knock makes the knock for a connection whose handshake is complete and whose pin has matched.
	Knock(s Secured) ([]byte, error)
	Filler
}

// Door tells users from strangers. Safe for concurrent use.
type Door interface {
	// Opens reports whether a knock opens the door. It takes as long for a wrong one as for a right one.
	Opens(s Secured, knock []byte) bool
	Filler
}

// ProofLen is the length of a proof, in bytes: 32 characters of base64url.
const ProofLen = 24

// Prover is an Opener that can prove itself ahead of its knock, on a pipe whose outside somebody else's TLS ends, or none
// is: to a server that has to tell a user's request from a stranger's before it lets bytes through. Found by assertion.
//
// A proof covers a nonce that the server sent. It shows that an access key's holder is there, and guards nothing: behind
// it come TLS and the knock.
type Prover interface {
	// Prove returns ProofLen bytes that nobody can tell from random ones, and nobody can link to another proof, but
	// whoever holds one of the network's access keys; or nil if it cannot.
	Prove(nonce []byte) []byte
	Shader
}

// Verifier is the Door that goes with a Prover. Found by assertion.
type Verifier interface {
	// Proves reports whether proof is one for nonce. It takes as long for a wrong one as for a right one.
	Proves(nonce, proof []byte) bool
	Shader
}

// Shader makes what everyone who holds one of the network's access keys, and nobody else, can make of a nonce. That is no
// secret to encrypt with, but will do to keep bytes from looking like what they are.
type Shader interface {
	Shade(nonce []byte) [32]byte
}

// Filler makes bytes that mean nothing behind the door, for a transport to give its first records an ordinary length.
type Filler interface {
	// AppendFiller appends n bytes, at least LeastFiller.
	AppendFiller(b []byte, n int) []byte
}

// LeastFiller is how short a filler can be, in bytes.
const LeastFiller = 4

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

// Laned is a Conn that can carry bytes beside its own, in lanes: what is lost of one holds up none of the others. Whoever
// uses it writes with WriteLanes only. Found by assertion.
type Laned interface {
	// WriteLanes is WriteBatch, but that bufs[i] goes by lanes[i]. Bytes stay in order within a lane, except in LaneLoose.
	// Any bytes may go by lane 0 instead, as long as there are no others, or too many: no lane may rely on not being 0.
	WriteLanes(bufs [][]byte, lanes []uint32) error
	// OnLane has read called, on a goroutine of its own, with every lane that the far side opens beside lane 0, which is
	// what Read reads. A lane ends with io.EOF when the far side has left it; that says nothing of the others. It must be
	// called once, and before it is no lane is looked at.
	OnLane(read func(lane io.Reader))
}

// LaneLoose is for bytes of which each batch may arrive before or after any other. 0 is the lane of Write and Read; the
// rest is the caller's to number.
const LaneLoose uint32 = 1<<32 - 1

// Hosted is a Conn that has a goroutine to lend, whose stack would otherwise lie idle. Found by assertion.
type Hosted interface {
	// Host runs f on that goroutine and returns at once. It may be called once.
	Host(f func())
}

// Scarce is a Conn that may carry so little that it should serve only where no other does. Found by assertion.
type Scarce interface {
	Scarce() bool
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
	// Opener knocks.
	Opener Opener
	// Fragment cuts the first message, where the transport is TLS on TCP.
	Fragment Fragment
	// Network is the network that this device is in, by whatever name the caller knows it again. A transport may keep what a
	// browser would keep from one visit to the next, and uses it on the same network only; empty keeps and uses nothing.
	Network string
	// Pace, if not nil, waits until another connection may be begun, for a dial that needs a second one.
	Pace func(ctx context.Context) error
	// Via is the relay to go through, with a name, pins and a door of its own; nil for all transports but relay, whose
	// Addr is the relay's already.
	Via *Endpoint
}

// Another waits until a dial that began then may begin another connection.
func (e Endpoint) Another(ctx context.Context, began time.Time) error {
	if e.Pace != nil {
		return e.Pace(ctx)
	}
	select {
	case <-time.After(time.Until(began.Add(DialSpacing))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Dialer opens connections of one transport. Safe for concurrent use.
type Dialer interface {
	// Transport is the transport's name as in access keys, status and logs.
	Transport() string
	// Dial returns when the handshake is complete, the pin has matched, and the knock is on its way: it does not wait
	// for the answer, and what is written next follows the knock at once. If the door does not open, Read fails with an
	// error that matches ErrDoor. Dial's errors are *DialError.
	Dial(ctx context.Context, ep Endpoint) (Conn, error)
}

// Listener accepts connections of one transport whose knock has opened the door. Close unblocks Accept, which then fails
// with an error that matches net.ErrClosed.
type Listener interface {
	Accept() (Conn, error)
	Addr() net.Addr
	Close() error
}

// Drainer is a Listener that can stop taking connections without breaking those that have come. Found by assertion.
type Drainer interface {
	// Drain closes the listening socket at once. Connections that have come go on, and Accept returns those whose knock
	// opens the door. It waits until none is left but links, or ctx is done. Close is still needed.
	Drain(ctx context.Context)
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

// KeyHash is what pins compare: the SHA-256 of a certificate's SubjectPublicKeyInfo.
func KeyHash(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// CheckPin returns the hash of the key that a server has shown in its chain of certificates. It takes the place of the CAs:
// whatever they say, the error is ErrPin unless the key is one of those pinned.
func CheckPin(pins [][sha256.Size]byte, chain []*x509.Certificate) (key [sha256.Size]byte, err error) {
	if len(chain) == 0 {
		return key, ErrPin
	}
	if key = KeyHash(chain[0]); !slices.Contains(pins, key) {
		return key, ErrPin
	}
	return key, nil
}

// ErrDoor is matched when the gateway took the client for a stranger.
var ErrDoor = errors.New("the door did not open")

// Reason is an error whose text names no address, so that it can be shown and logged.
type Reason string

func (r Reason) Error() string { return string(r) }

// ErrNotTLS is matched when whoever answered is no gateway, nor any other server of TLS.
const ErrNotTLS = Reason("whoever answered does not speak TLS")

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

// DialSpacing is the least time between two dials: parallel and hasty ones are what a firewall looks for (more than
// three within some 400 ms get an address frozen for minutes in one country).
const DialSpacing = 450 * time.Millisecond

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
