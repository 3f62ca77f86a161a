package chrome

import (
	"slices"

	"golang.org/x/net/http2/hpack"
)

// What Chrome says over QUIC is in parts the same as over TCP.

// Fields are the fields of Chrome's navigation to https://authority/ with the given value of the Cookie header (empty:
// none), in order.
func Fields(authority, cookie string) []hpack.HeaderField {
	return theChrome().profile.HTTP2.fields(authority, cookie)
}

// ExtensionBody is the content of an extension of Chrome's ClientHello that does not change; nil if there is none.
func ExtensionBody(number Code) []byte {
	for _, e := range theChrome().profile.TLS.Extensions {
		if e.Type == number {
			return slices.Clone([]byte(e.Body))
		}
	}
	return nil
}
