package prober

import (
	"bytes"
	"fmt"
)

// Whether behind the user's handshake came what the website sends there (Aparecium, B11). OpenSSL sends two tickets of
// about one length as soon as the client is finished; a server that lets a website shake hands and then speaks itself sends
// something else. Stacks that send other tickets, Go's among them, cannot be told so.

const (
	// finished are the lengths of the server's last handshake record: a hash of 32 or 48 bytes, its header of 4, a type
	// and a tag of 17; ShadowTLS adds 4.
	finishedSHA256 = 32 + 4 + 17
	finishedSHA384 = 48 + 4 + 17
	shadowTLS      = 4
	// leastCertificate is less than a record has that holds one. Without it the session was resumed, and other tickets come.
	leastCertificate = 300
	// leastTicket is less than OpenSSL's have, and more than HTTP/2's settings.
	leastTicket = 150
	// sealed is what TLS 1.3 adds to a ticket: a type and a tag.
	sealed = 17
)

// behindFinished are the lengths of the recorded records behind the server's part of a full handshake in TLS 1.3.
func behindFinished(server [][]byte) (lengths []int) {
	all, _ := split(bytes.Join(server, nil))
	certificate, finished := false, false
	for _, r := range all {
		n := len(r.body)
		switch {
		case r.kind != 23:
		case finished:
			lengths = append(lengths, n)
		case n >= leastCertificate:
			certificate = true
		case certificate:
			finished = n == finishedSHA256 || n == finishedSHA384 || n == finishedSHA256+shadowTLS || n == finishedSHA384+shadowTLS
		}
	}
	return lengths
}

// ticketsMissing is a rule.
func (e *evidence) ticketsMissing() string {
	own := e.of(asUser)
	behind := behindFinished(e.server)
	if own == nil || len(behind) == 0 {
		return ""
	}
	t := own.Suspect.Unasked
	if len(t) < 2 || !near(t[0], t[1]) || t[0] < leastTicket {
		return ""
	}
	both := t[0] + t[1] - sealed // Cloudflare sends both in one record
	if near(behind[0], both) || near(behind[0], t[0]) && (len(behind) == 1 || near(behind[1], t[1])) {
		return ""
	}
	return fmt.Sprintf("the handshake is followed by two tickets of %d and %d bytes; the user got %d bytes in their place", t[0], t[1],
		behind[0])
}
