// Package websocket is the pipe through somebody else's TLS: a web server, a load balancer or a CDN ends the outer TLS,
// and passes a WebSocket on to the gateway. It also works on the gateway's own port 443.
//
//	client                            TLS of the front                gateway, an http.Handler around the website
//	  GET /                                 ──>                  ──>  the page, and a nonce (package doorstep)
//	  GET / Upgrade, or CONNECT of RFC 8441 ──>  Upgrade         ──>  the proof is right: 101
//	  binary frames                        <──>  bytes          <──>  binary frames: package pipe's layer
//
// The client looks like Chrome, and does as Chrome does: the page first; then, on the same connection, extended CONNECT
// if that is HTTP/2 and the server's SETTINGS allow it, or the upgrade if it is HTTP/1.1; else the upgrade on a second
// connection, which offers HTTP/1.1 alone. Fronts cut what is idle for a minute, so a client that has sent nothing for 30
// to 50 s pings.
//
//	dial.go     the client's end
//	h2.go       its WebSocket on HTTP/2
//	handler.go  the gateway's end
//	conn.go     frames (RFC 6455)
package websocket

import "time"

// Name is the transport's name.
const Name = "websocket"

// leastIdle is after how long without a word a client pings, and up to two thirds more.
const leastIdle = 30 * time.Second
