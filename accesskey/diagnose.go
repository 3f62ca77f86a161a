package accesskey

import (
	"fmt"
	"strings"
)

// withoutStart says what a text without "godwit://" is.
func withoutStart(s string) *ParseError {
	text := lower(strings.Join(strings.Fields(unescape(unescape(s))), ""))
	text = strings.Trim(text, "\"'`<>“”‘’«»")
	if text == "" {
		return notKey("nothing is there")
	}
	if text == "godwit:" {
		return truncated("payload", "only its first word is there")
	}
	other, _, link := strings.Cut(text, "://")
	if link && isLinkScheme(other) && !strings.HasSuffix("godwit", other) {
		return notKey("it is a link of another kind: " + other + "://")
	}
	// The parts that only a key has, as far as they may be cut short.
	if strings.Contains(text, "&dir=") || strings.Contains(text, "pin=") && strings.Contains(text, "&c=") {
		return truncated("payload", "the beginning is missing")
	}
	return notKey("")
}

// isLinkScheme reports whether s is a scheme short enough to be one people know, and to be shown.
func isLinkScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || strings.IndexByte("+-.", c) >= 0)) {
			return false
		}
	}
	return s != "" && len(s) <= 16
}

// diagnose says why no reading of a body has the right sum. e is its likeliest reading and body what it was before
// blanks were dropped.
//
// Cut off and changed call for different remedies, and a person who is told the wrong one tries it in vain. What can be
// told apart: a key without its c was cut off, for c is last. So was one whose c ends early and is right so far. A key
// that begins and ends well, but whose parts of known length are far from it, lost a piece in the middle, as when one
// of several lines was not copied. All else was changed.
func diagnose(e envelope, body string) *ParseError {
	key, _, _ := strings.Cut(body, "&c=")
	if strings.Contains(key, "…") || strings.Contains(key, "...") {
		return truncated("", "a program showed it shortened")
	}
	if !e.hasC || len(e.sum) < sumLen {
		switch {
		case !plausible(e.payload):
			return mangled("payload", "it does not begin as a key does")
		case e.hasC && e.after != "" && !strings.HasPrefix(e.want(), lower(e.sum)):
			return mangled("c", "not a checksum")
		}
		return truncated(lastPart(e), "the rest is missing")
	}
	// The next word of the message may look like the rest of c.
	if i := strings.LastIndex(body, "c="); i >= 0 {
		run := body[i+len("c="):]
		if j := strings.IndexAny(run, " \n"); j >= 0 && j < sumLen && strings.HasPrefix(e.want(), lower(run[:j])) {
			return truncated("c", "the rest is missing")
		}
	}
	if key := e.payload + e.query; key == lower(key) {
		return mangled("", "its capital letters were made small")
	}
	if part, reason := missingPiece(e); part != "" {
		return truncated(part, reason)
	}
	return mangled("", "its checksum does not match")
}

// plausible reports whether a payload may be the beginning of one. Formats up to 3 begin with "A".
func plausible(payload string) bool {
	return payload == "" || payload[0] == 'A'
}

// lastPart names the part that a key cut off before its c ends in.
func lastPart(e envelope) string {
	switch {
	case !e.hasAt:
		return "payload"
	case e.hasC:
		return "c"
	case e.query == "":
		return "host"
	}
	name, _, ok := strings.Cut(e.query[strings.LastIndexByte(e.query, '&')+1:], "=")
	switch name {
	case "pin", "next", "dir", "sni", "alt", "at":
		if ok {
			return name
		}
	}
	return ""
}

// slack is by how many characters a part may miss its length and still count as changed rather than as cut.
const slack = 4

// missingPiece names a part of a key with both ends that shows that something between them was not copied.
func missingPiece(e envelope) (part, reason string) {
	lengths := map[string]int{}
	renamed := false // a part that looks like a hash under another name was changed, not lost
	for _, p := range strings.Split(e.query, "&") {
		name, value, _ := strings.Cut(p, "=")
		lengths[name] = len(value)
		switch name {
		case "pin", "next", "dir", "sni", "alt", "at":
		default:
			renamed = renamed || near(len(p), len("pin=")+43)
		}
	}
	for _, name := range []string{"pin", "next", "dir"} {
		n, ok := lengths[name]
		switch {
		case ok && !near(n, 43):
			return name, fmt.Sprintf("%d characters instead of 43", n)
		case !ok && name != "next" && !renamed:
			return name, "missing"
		}
	}
	if e.hasAt && !near(len(e.payload), 34) {
		return "payload", fmt.Sprintf("%d characters instead of 34", len(e.payload))
	}
	if !e.hasAt && len(e.payload) < 34 {
		return "host", "missing"
	}
	return "", ""
}

func near(n, want int) bool { return want-slack <= n && n <= want+slack }
