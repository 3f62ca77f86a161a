package prober

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// End is how a conversation ended.
type End string

// The ends.
const (
	FIN         End = "FIN"         // the server closed
	RST         End = "RST"         // the server reset, perhaps because it closed with bytes unread
	Open        End = "open"        // neither, as long as patience lasted
	Refused     End = "refused"     // nobody listens
	Unreachable End = "unreachable" // nothing came back at all
	NotSent     End = "not sent"    // the probe does not fit the suspect
)

// Answer is what came of one probe.
type Answer struct {
	// What came, in words that two servers of one kind share: without dates, random bytes, lengths of signatures.
	What  string `json:"what"`
	Bytes int    `json:"bytes"`
	End   End    `json:"end"`
	// Took is told and never judged: time on a shared machine says little.
	Took float64 `json:"ms"`
	// Closes and Resets are how many bytes that it could make nothing of the server took until then, in a flood how many
	// records; 0 is not at all, or not asked.
	Closes int `json:"closes_at,omitempty"`
	Resets int `json:"resets_at,omitempty"`
	// Unasked are the lengths of the records that a TLS server sends of itself behind its handshake, tickets and settings.
	// They are the stack's own, but for tickets that are a cipher's block longer or shorter.
	Unasked []int `json:"unasked,omitempty"`
}

// like reports whether two answers are the same to whoever sees many.
func (a Answer) like(b Answer) bool {
	return a.What == b.What && a.End == b.End && slices.EqualFunc(a.Unasked, b.Unasked, near)
}

func (a Answer) String() string {
	s := a.What
	for _, n := range a.Unasked {
		s += fmt.Sprintf(" +%d", n)
	}
	return s + ", " + string(a.End)
}

// block is how much two tickets of one OpenSSL differ: there is a random integer in what is padded to AES's blocks, and it
// has no fixed length (seen with OpenSSL 3.0).
const block = 16

// near reports whether two lengths are a block apart at most.
func near(a, b int) bool { return a-b <= block && b-a <= block }

// nothing is What when no byte came.
const nothing = "nothing"

func notSent(why string) Answer { return Answer{What: why, End: NotSent} }

// ending names what an error says of the connection.
func ending(err error) End {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return FIN
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return RST
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Open
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.Is(err, syscall.ENETUNREACH) {
		return Unreachable
	}
	return FIN // TLS's own errors: the connection is closed by us
}

// describe puts what a server sent into words.
func describe(b []byte) string {
	switch {
	case len(b) == 0:
		return nothing
	case isRecord(b):
		return "TLS " + records(b)
	case bytes.HasPrefix(b, []byte("HTTP/")):
		return page(b)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) > 3 && printable(line) {
		return fmt.Sprintf("%q", line[:min(len(line), 60)])
	}
	return "binary"
}

func printable(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < 0x20 || c > 0x7e })
}

// isRecord reports whether b begins with a TLS record.
func isRecord(b []byte) bool {
	return len(b) >= 5 && b[0] >= 20 && b[0] <= 23 && b[1] == 3 && b[2] <= 4
}

// record is one TLS record's type and body.
type record struct {
	kind byte
	body []byte
}

// split takes TLS records apart; rest is what is none, or not whole.
func split(b []byte) (all []record, rest []byte) {
	for isRecord(b) {
		n := 5 + int(binary.BigEndian.Uint16(b[3:]))
		if len(b) < n {
			break
		}
		all = append(all, record{b[0], b[5:n]})
		b = b[n:]
	}
	return all, b
}

// records names TLS records. Lengths are not told: a signature has no fixed one.
func records(b []byte) string {
	names := map[byte]string{20: "ccs", 21: "alert", 22: "handshake", 23: "data"}
	all, rest := split(b)
	var out []string
	for i := 0; i < len(all); {
		n := 1
		for i+n < len(all) && all[i+n].kind == all[i].kind {
			n++
		}
		what := names[all[i].kind]
		if r := all[i]; r.kind == 21 && len(r.body) == 2 {
			what += fmt.Sprintf("(%d)", r.body[1])
		}
		if n > 1 {
			what += fmt.Sprintf("×%d", n)
		}
		out = append(out, what)
		i += n
	}
	if len(rest) > 0 {
		out = append(out, "cut")
	}
	return strings.Join(out, " ")
}

// varying are headers whose values differ between two servers of one kind, or two moments.
var varying = []string{"date", "set-cookie", "etag", "last-modified", "expires", "age", "x-request-id"}

// page names an HTTP/1 answer: its status, its headers in their order, its body; and the answer behind it, if there is one.
func page(b []byte) string {
	head, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	next := ""
	for i, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		if slices.Contains(varying, strings.ToLower(name)) {
			lines[i+1] = name
		}
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || !strings.EqualFold(name, "Content-Length") || n < 0 || n >= len(body) {
			continue
		}
		if bytes.HasPrefix(body[n:], []byte("HTTP/")) {
			body, next = body[:n], " then "+page(body[n:])
		}
	}
	return lines[0] + " {" + strings.Join(lines[1:], "; ") + "} " + digest(body) + next
}

// digest names a body.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return fmt.Sprintf("%d bytes %x", len(body), sum[:4])
}
