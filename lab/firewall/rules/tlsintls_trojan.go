package rules

import "fmt"

// trojanSums does what OpenGFW's analyzer/tcp/trojan.go does by its description: after the client's ChangeCipherSpec the bytes
// of four bursts, to and fro, go into a decision tree; its authors say 1 % of false positives and 10 % of false negatives. Their
// tree is not copied: this one is written by hand, from what a Trojan header before an inner ClientHello, a server's flight of
// certificates and a client's Finished with a request must measure, and is an approximation.
//
// Found, of the connections that tlsintls_xue.go tells of: trojan 43 of 43, shadowtls 23 of 39, reality with Vision 6 of 39,
// https-proxy 0 of 36 (its request is answered before the inner hello), godwit 1 of 18, anytls 0 of 3; without TLS outside it
// does not look. Wrongly: HTTPS of Chromium 0 of 25, of curl 5 of 171. The tree was written with half of these in view.
func trojanSums(r *TLSInTLS, f *flight) (bool, string) {
	b := f.bursts(0, false)
	if !f.cover || len(b) < 4 || len(b) < 5 && len(f.packets) < flightPackets {
		return false, "too few bursts" // or the fourth may still go on
	}
	hello, flight, finished, answer := b[0].bytes, b[1].bytes, b[2].bytes, b[3].bytes
	found := false
	switch {
	case hello < max(250, r.Least) || flight < 1000 || flight > 7500: // a request, or an answer that is no flight of certificates
	case finished < 80 || finished > 1600: // an acknowledgement of HTTP/2, or an upload
	case hello < 450: // TLS 1.2: then come the server's Finished and a ticket
		found = answer < 600 && finished < 200
	case hello < 900 || hello > 1600 && hello < 2800: // TLS 1.3 without, and with a post-quantum key share
		found = answer >= 40
	}
	return found, fmt.Sprintf("sums %d %d %d %d", hello, flight, finished, answer)
}
