package quic

import (
	"bytes"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
	"github.com/godwit-vpn/godwit/internal/transports/knock"
)

// block is a header block with a cookie.
func block(t testing.TB, cookie string) []byte {
	t.Helper()
	b, err := request("site.example", cookie)
	if err != nil {
		t.Fatal(err)
	}
	_, _, head, err := parseHead(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[head:]
}

// A header block is anybody's: whatever it is, it is read in bounds, and only a knock is found in it.
func FuzzFindKnock(f *testing.F) {
	var c knock.Cookies
	cookie, sent, err := c.Hide([32]byte{1}, bytes.Repeat([]byte("knock"), 60))
	if err != nil {
		f.Fatal(err)
	}
	_, value, _ := strings.Cut(cookie, "=")
	whole := block(f, cookie)
	if !bytes.Equal(findKnock(whole, len(value)), sent) {
		f.Fatal("the client's own knock is not found")
	}
	f.Add(whole)
	f.Add(block(f, "a=b; "+cookie))
	f.Add(block(f, strings.Repeat("x=y; ", 300)))
	f.Add(append([]byte{0, 0}, bytes.Repeat([]byte{0xdd}, maxBlock-2)...)) // long lines of the static table
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxBlock {
			return
		}
		if found := findKnock(b, len(value)); found != nil && len(found) != len(sent) {
			t.Errorf("a knock of %d bytes", len(found))
		}
	})
}

// Whatever a server says that holds the pinned key, the client reads no more than a frame of it.
func FuzzReadMarker(f *testing.F) {
	marker := []byte("sixteen bytes ok")
	f.Add(appendFrame(nil, frameHeaders, marker))
	f.Add(appendFrame(nil, frameHeaders, append(bytes.Clone(marker), "and more"...)))
	f.Add(appendFrame(nil, frameHeaders, marker[1:]))
	f.Add(appendFrame(nil, 0, marker))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		through, err := readMarker(r, marker)
		used := len(b) - r.Len()
		if used > 16+maxMarker {
			t.Errorf("%d bytes were read", used)
		}
		kind, length, head, headErr := parseHead(b)
		if through != (err == nil && headErr == nil && kind == frameHeaders && used == head+int(length) &&
			length >= markerLen && length <= maxMarker && bytes.HasPrefix(b[head:], marker)) {
			t.Errorf("through %v, %v, after %d bytes", through, err, used)
		}
	})
}

// A link begins with as many bytes as the website's answer has, and the client finds what it has to say.
func FuzzReply(f *testing.F) {
	marker := []byte("sixteen bytes ok")
	f.Add(1400, []byte("WELCOME"), 3)
	f.Add(20, []byte{}, 0)
	f.Add(0, bytes.Repeat([]byte("frames"), 1000), 500)
	f.Fuzz(func(t *testing.T, length int, said []byte, cut int) {
		if length < 0 || length > answerMax || cut < 0 {
			return
		}
		cut = min(cut, len(said))
		all := bytes.Join((&reply{length: length, filler: transporttest.Lock{}}).begin(marker, [][]byte{said[:cut], said[cut:]}), nil)
		if need := len(appendFrame(nil, frameHeaders, marker)) + len(said); len(all) != max(length, need) &&
			len(all) != max(length, need)+1 { // the marker's frame may need a byte more to say how long it is
			t.Errorf("%d bytes instead of %d", len(all), max(length, need))
		}
		r := bytes.NewReader(all)
		if through, err := readMarker(r, marker); !through || err != nil {
			t.Fatalf("through %v, %v", through, err)
		}
		if rest := all[len(all)-r.Len():]; !bytes.HasPrefix(rest, said) {
			t.Error("what the link says does not follow the marker")
		}
	})
}
