// Package quic is the transport that ends in the gateway's own QUIC, on UDP. To a stranger the gateway is a website that
// speaks HTTP/3, and a client looks like Chrome that visits it; what knows neither is the hidden door.
//
//	client                                                  gateway
//	  QUIC's TLS 1.3, X25519MLKEM768, the server's key pinned
//	  control stream: SETTINGS, PRIORITY_UPDATE       ──>    read by the website's HTTP/3 server
//	  stream 0: HEADERS: GET /, the knock as a cookie ──>    looked at before that server reads it, and kept from it
//	  stream 0: what the link sends …                 ──>    if the knock opens the door
//	                                                  <──    control stream: SETTINGS: the server's
//	                                                  <──    stream 0: HEADERS: the marker, 16 bytes of exporter
//	                                                  <──    stream 0: what the link sends …
//
// From the request and the marker on stream 0 carries the link's bytes as they are, without HTTP/3's frames, and further
// streams carry those of its lanes. If the knock does not open the door the request is one to the website, and is answered
// as such.
//
//	dial.go     the client's end, and what it skips until the marker
//	hello.go    the client's ClientHello: Chrome's
//	listen.go   the gateway's end: the website's server, and how many it has room for
//	door.go     how a stream is kept from it
//	h3.go       HTTP/3's frames, as far as all these have to know them
//	reply.go    how long the website's answer is, and so the beginning of a link's
//	conn.go     the connection that a link gets
//	lanes.go    the streams by which it sends
//	bbr/        how fast it sends
package quic

import (
	"time"

	quicgo "github.com/sagernet/quic-go"
)

// Name is the transport's name.
const Name = "quic"

const (
	// keepAlive is how long nothing may come until a client pings: Chrome's, for connections with an open request. It
	// also keeps mappings of NATs, and the idle timeout of both ends (30 s) away.
	keepAlive = 15 * time.Second

	// What a link may have on its way to a reader that does not read, in bytes: a path of a gigabit per second and
	// 130 ms, or one of 100 Mbit/s with room for what waits behind losses.
	streamWindow     = 16 << 20
	connectionWindow = 24 << 20
)

// noError is why a connection ends: nothing is wrong (RFC 9114, section 8.1).
const noError quicgo.ApplicationErrorCode = 0x100
