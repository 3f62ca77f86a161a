// Package http is the pipe for networks that cut TLS to an address: one ordinary POST of plain HTTP/1.1, whose body
// carries one direction and whose answer carries the other.
//
//	client                                               gateway, an http.Handler around what answers on port 80
//	  GET /                                        ──>    the redirect, and a nonce (package doorstep)
//	  POST /, with a right proof, Content-Length   ──>
//	  bytes, shaded: package pipe's layer          ──>
//	                                               <──    200, Transfer-Encoding: chunked
//	                                               <──    bytes, shaded
//
// Both bodies are XORed with AES-128-CTR, counting from zero, under the halves of the nonce's shade: the first for what
// the client sends. That is camouflage and no security: everyone who holds an access key of the network can undo it. It
// keeps a ClientHello from showing on port 80; the TLS inside protects what it carries.
//
// The client looks like Chrome: a navigation, and then a script's upload, of a size that is drawn and never reached but by
// who sends more than a gigabyte, whose connection ends there. A proxy that holds the upload until it is complete is found
// out when no answer comes; there is no other way around it in this version.
//
//	dial.go     the client's end
//	handler.go  the gateway's end
//	conn.go     bodies
package http

import "time"

// Name is the transport's name.
const Name = "http"

// patience is how long the answer to the POST may take: who is on the way keeps the body if it takes longer.
const patience = 6 * time.Second

// contentType is what both bodies are said to be, and what tells a gateway's answer from a website's.
const contentType = "application/octet-stream"

// An upload's size, in bytes: a video's.
const (
	leastUpload  = 1 << 30
	uploadSpread = 1 << 30
)
