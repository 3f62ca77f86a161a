package chrome

import (
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// What Chrome says over QUIC is in parts the same as over TCP.

// Fields are the fields of a navigation to https://authority/ with the given value of the Cookie header (empty: none),
// in order.
func Fields(authority, cookie string) []hpack.HeaderField {
	return profile().HTTP2.fields(authority, cookie)
}

func (h *HTTP2) fields(authority, cookie string) []hpack.HeaderField {
	var all []hpack.HeaderField
	put := func(name, value string) { all = append(all, hpack.HeaderField{Name: name, Value: value}) }
	for _, line := range h.Headers {
		name, value, _ := field(line)
		switch name {
		case ":authority":
			put(name, authority)
		case "cookie":
			if cookie == "" {
				continue
			}
			for crumb := range strings.SplitSeq(cookie, "; ") { // RFC 9113, section 8.2.3
				put(name, crumb)
			}
		default:
			put(name, value)
		}
	}
	return all
}

// ExtensionBody is the content of an extension of the ClientHello that does not change; nil if there is none.
func ExtensionBody(number Code) []byte {
	for _, e := range profile().TLS.Extensions {
		if e.Type == number {
			return slices.Clone([]byte(e.Body))
		}
	}
	return nil
}
