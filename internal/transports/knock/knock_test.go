package knock

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// A browser's requests to a website are all of one length; so are nearly all of a client's to a gateway, whatever it
// knocks with. The shortest cookies leave little room for that.
func TestCookieLength(t *testing.T) {
	t.Parallel()
	const clients, knocks, knockLen = 20, 200, 340 // with a device's certificate
	alike := 0
	for range clients {
		var c Cookies
		var key [32]byte
		rand.Read(key[:])
		lengths := map[uint64]int{}
		for range knocks {
			knock := make([]byte, knockLen)
			rand.Read(knock)
			cookie, sent, err := c.Hide(key, knock)
			if err != nil {
				t.Fatal(err)
			}
			_, value, _ := strings.Cut(cookie, "=")
			if found := Find("a=b; "+cookie, len(value)); !bytes.Equal(found, sent) || !bytes.HasPrefix(found, knock) {
				t.Fatal("what was hidden is not found")
			}
			lengths[hpack.HuffmanEncodeLength(cookie)]++
		}
		most := 0
		for _, n := range lengths {
			most = max(most, n)
		}
		alike += most
	}
	if alike < clients*knocks*85/100 {
		t.Errorf("of %d knocks %d are as long as most", clients*knocks, alike)
	}
}
