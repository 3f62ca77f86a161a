// Package knock hides a knock in what a browser sends to a website that it has been to: the session cookie of the
// request for its first page. It serves the transports whose requests have header fields.
package knock

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/decoy"
)

// Cookies makes the cookies of one client. The zero value is ready; it is safe for concurrent use.
type Cookies struct {
	mu      sync.Mutex
	lengths map[[sha256.Size]byte]int // in a header block, for a gateway's key, since the first one
}

// Hide hides a knock in the cookie of the gateway with that key. It returns the value of the Cookie header, and the knock
// as the gateway will find it: with what follows it.
//
// A browser sends the same cookie every time, so its request is always of the same length; a knock is another one every
// time, and HPACK and QPACK write letters in five to eight bits. So what follows the knock is chosen to make up for
// that, as far as there is room.
func (c *Cookies) Hide(key [sha256.Size]byte, knock []byte) (cookie string, sent []byte, err error) {
	name, length := decoy.CookieFor(key)
	sent = make([]byte, base64.RawURLEncoding.DecodedLen(length))
	if len(knock) > len(sent) {
		return "", nil, fmt.Errorf("a knock of %d bytes: there is room for %d", len(knock), len(sent))
	}
	rand.Read(sent[copy(sent, knock):])
	b := []byte(name + "=" + base64.RawURLEncoding.EncodeToString(sent))
	size := func() int { return int(hpack.HuffmanEncodeLength(string(b))) }
	want := c.length(key, name, length)
	const short, long = 'a', 'X' // five and eight bits
	value := len(name) + 1
	for i := value + (len(knock)+2)/3*4; i < len(b) && size() != want; i++ {
		if b[i] = short; size() < want {
			b[i] = long
		}
	}
	sent, err = base64.RawURLEncoding.DecodeString(string(b[value:]))
	return string(b), sent, err
}

// length draws how long a gateway's cookie is to be, once: about as long as most random ones are.
func (c *Cookies) length(key [sha256.Size]byte, name string, length int) int {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lengths[key] == 0 {
		if c.lengths == nil {
			c.lengths = make(map[[sha256.Size]byte]int)
		}
		usual := hpack.HuffmanEncodeLength(name + "=" + strings.Repeat(alphabet, 1+length/len(alphabet))[:length])
		c.lengths[key] = int(usual) + mrand.IntN(3) - 1
	}
	return c.lengths[key]
}

// Find returns the first cookie of a Cookie field that is as long as a knock, in characters, and spelt as one; nil if
// there is none.
func Find(field string, length int) []byte {
	for pair := range strings.SplitSeq(field, "; ") {
		_, value, _ := strings.Cut(pair, "=")
		if len(value) != length {
			continue
		}
		if b, err := base64.RawURLEncoding.Strict().DecodeString(value); err == nil {
			return b
		}
	}
	return nil
}
