package doorstep

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// How much of a page is read for its nonce.
const (
	MaxPage       = 1 << 20
	MaxPageHeader = 64 << 10
)

// ReadPage reads the answer to a GET by HTTP/1.1, of which r must bound the length. over says that the connection takes no
// other request.
func ReadPage(r *bufio.Reader) (header http.Header, over bool, err error) {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, MaxPage))
	if err != nil {
		return nil, false, err
	}
	return resp.Header, resp.Close || n == MaxPage, nil // the rest of a long one is not waited for
}

// Authority is what a browser would name the website at an endpoint, where port is the scheme's own.
func Authority(ep transport.Endpoint, port string) string {
	host, p, err := net.SplitHostPort(ep.Addr)
	if err != nil {
		return ep.Addr
	}
	if ep.Name != "" {
		host = ep.Name
	}
	if p != port {
		return net.JoinHostPort(host, p)
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return "[" + host + "]"
	}
	return host
}

// Nonce finds the nonce in an answer of the gateway, by its spelling: its name may have changed with the gateway's key.
// cookie is what brings it back, NAME=value; a nil nonce says that there is none.
func Nonce(h http.Header) (cookie string, nonce []byte) {
	for _, line := range h["Set-Cookie"] {
		pair, _, _ := strings.Cut(line, ";")
		name, value, _ := strings.Cut(pair, "=")
		if b, ok := spelt(value); ok && name != "" {
			return pair, b[:]
		}
	}
	return "", nil
}

// Answer is the Cookie header that answers a nonce with the cookie that brought it; empty if the opener cannot prove. shade
// is what Opens returns.
func Answer(brought string, nonce []byte, ep transport.Endpoint) (cookie string, shade [32]byte) {
	p, ok := ep.Opener.(transport.Prover)
	if !ok || len(ep.Pins) == 0 {
		return "", shade
	}
	proof := p.Prove(nonce)
	if proof == nil {
		return "", shade
	}
	_, other := names(ep.Pins[0])
	return brought + "; " + other + "=" + base64.RawURLEncoding.EncodeToString(proof), p.Shade(nonce)
}
