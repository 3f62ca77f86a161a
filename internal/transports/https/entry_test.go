package https

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/transports/tcp"
)

// server is a connection to a server that says b, whatever it hears.
type server struct {
	net.Conn
	says  *bytes.Reader
	heard int
}

func (s *server) Read(b []byte) (int, error)  { return s.says.Read(b) }
func (s *server) Write(b []byte) (int, error) { s.heard += len(b); return len(b), nil }

// zeros fills with zeros.
type zeros struct{}

func (zeros) AppendFiller(b []byte, n int) []byte { return append(b, make([]byte, n)...) }

// enter is a client in front of the door of a server that says b.
func enter(b, marker []byte) (*conn, *server) {
	s := &server{says: bytes.NewReader(b)}
	return &conn{Conn: s, sock: &tcp.Conn{Conn: s}, entry: &entry{marker: marker, filler: zeros{}}}, s
}

var testMarker = []byte("sixteen bytes ok")

// ahead is what the website's server says before it answers.
var ahead = []byte{
	0, 0, 6, byte(http2.FrameSettings), 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 250,
	0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0, 0, 15, 0, 1,
	0, 0, 0, byte(http2.FrameSettings), byte(http2.FlagSettingsAck), 0, 0, 0, 0,
}

// What comes ahead of the marker is bounded, whoever answers: a hostile server is one that holds the pinned key.
func FuzzPass(f *testing.F) {
	f.Add(append(bytes.Clone(ahead), appendMarker(nil, testMarker, 0)...))
	f.Add(append(appendMarker(bytes.Clone(ahead), testMarker, 3), "frames"...))
	f.Add(appendMarker(nil, bytes.Repeat([]byte{1}, markerLen), 0))
	f.Add(bytes.Repeat(ahead, 120))
	f.Add([]byte{0xff, 0xff, 0xff, byte(http2.FrameSettings), 0, 0, 0, 0, 0})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, s := enter(b, testMarker)
		err := c.pass()
		used := len(b) - s.says.Len()
		if used > maxSkipped+headLen+16<<10 {
			t.Errorf("%d bytes were read ahead of the marker", used)
		}
		if s.heard != 0 && s.heard != chrome.SettingsAckLen {
			t.Errorf("%d bytes were said to a server that is not known yet", s.heard)
		}
		if err != nil {
			return
		}
		// It was let through: by a frame that ends there and begins with the marker, and only what a server says ahead of
		// its answer before it.
		for at := 0; ; {
			length, kind := int(binary.BigEndian.Uint32(b[at:])>>8), http2.FrameType(b[at+3])
			body := b[at+headLen:][:length]
			if at += headLen + length; kind == http2.FrameHeaders {
				if at != used || !bytes.HasPrefix(body, testMarker) {
					t.Errorf("let through after %d bytes by a frame that ends at %d", used, at)
				}
				return
			}
			if kind != http2.FrameSettings && kind != http2.FrameWindowUpdate {
				t.Fatalf("a frame of type %v was skipped", kind)
			}
		}
	})
}

// Whatever the website's shape and the link's first bytes are, the client finds the link's bytes behind the marker, and
// the writes are as long as the website's.
func FuzzReply(f *testing.F) {
	f.Add([]byte{0, 60, 4, 0}, []byte("WELCOME"), uint16(3))
	f.Add([]byte{0, 28, 0, 1, 0, 200}, []byte{}, uint16(0))
	f.Add([]byte{}, bytes.Repeat([]byte("frames"), 1000), uint16(500))
	f.Fuzz(func(t *testing.T, lengths, said []byte, cut uint16) {
		var shape shape
		total := 0
		for len(lengths) >= 2 && len(shape) < 16 {
			n := 1 + int(binary.BigEndian.Uint16(lengths))%shapeMax
			shape, lengths, total = append(shape, n), lengths[2:], total+n
		}
		at := min(int(cut), len(said))
		writes := (&reply{shape: shape, filler: zeros{}}).writes(testMarker, [][]byte{said[:at], said[at:]})
		all := bytes.Join(writes, nil)
		if need := headLen + markerLen + len(said); len(all) != max(total, need) {
			t.Errorf("%d bytes instead of %d", len(all), max(total, need))
		}
		left := len(all)
		for i, n := range shape {
			if n = min(n, left); i < len(writes) && len(writes[i]) != n {
				t.Errorf("write %d of %d bytes instead of %d", i, len(writes[i]), n)
			}
			left -= n
		}
		c, s := enter(append(bytes.Clone(ahead), all...), testMarker)
		if err := c.pass(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(s.says)
		if !bytes.HasPrefix(rest, said) {
			t.Error("the link's bytes do not follow the marker")
		}
		if filler := rest[len(said):]; len(bytes.Trim(filler, "\x00")) > 0 {
			t.Error("what follows them is not filler")
		}
	})
}

// The request names the website as a browser's would: without a port that is the usual one, IPv6 in brackets.
func TestAuthority(t *testing.T) {
	for _, c := range []struct{ addr, name, want string }{
		{"192.0.2.1:443", "", "192.0.2.1"}, {"192.0.2.1:8443", "", "192.0.2.1:8443"},
		{"[2001:db8::1]:443", "", "[2001:db8::1]"}, {"[2001:db8::1]:8443", "", "[2001:db8::1]:8443"},
		{"192.0.2.1:443", "site.example", "site.example"}, {"[2001:db8::1]:8443", "site.example", "site.example:8443"},
		{"gw.example:443", "", "gw.example"}, {"gw.example:443", "site.example", "site.example"},
	} {
		if got := doorstep.Authority(transport.Endpoint{Addr: c.addr, Name: c.name}, "443"); got != c.want {
			t.Errorf("%s at %s is %q, want %q", c.name, c.addr, got, c.want)
		}
	}
}
