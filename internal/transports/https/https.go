// Package https is the transport that ends in the gateway's own TLS on TCP. To a stranger the gateway is a website, on
// Go's own HTTP server, and a client looks like a browser that visits it; what knows neither is the hidden door.
//
//	client                                                  gateway
//	  TLS 1.3, X25519MLKEM768, the server's key pinned
//	  preface, SETTINGS, WINDOW_UPDATE      (record)  ──>    read by the website's HTTP/2 server, and watched
//	  HEADERS: GET /, the knock as a cookie (record)  ──>    the knock opens the door: the server is cut off
//	  what the link sends …                           ──>
//	                                                  <──    SETTINGS, WINDOW_UPDATE, SETTINGS ACK: the server's
//	  9 bytes of filler, as long as an ACK  (record)  ──>
//	                                                  <──    HEADERS of stream 1: the marker, 16 bytes of exporter
//	                                                  <──    what the link sends …
//
// From the request and the marker on the connection carries the link's bytes as they are, without HTTP/2's frames. If
// the knock does not open the door the request is one to the website, and is answered as such.
//
//	dial.go      the client's end, and what it skips until the marker
//	kept.go      what a client keeps from one visit to the next
//	listen.go    the gateway's end: the website's server
//	visitors.go  how many it has room for
//	tap.go       how a connection is taken from it
//	watch.go     what is looked for in what it reads
//	shape.go     how long the records are that the website would answer with
//	frames.go    HTTP/2's frames, as far as all these have to know them
//	conn.go      the connection that a link gets
//	look.go      a visit to the website and no more
package https

// Name is the transport's name.
const Name = "https"
