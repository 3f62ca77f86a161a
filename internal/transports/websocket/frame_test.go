package websocket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// canned is a connection on which these bytes come.
type canned struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *canned) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *canned) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c *canned) Close() error                { return nil }

func reading(b []byte, client bool) (*conn, *canned) {
	under := &canned{in: bytes.NewReader(b)}
	return newConn(under, bufio.NewReader(under), client, time.Hour), under
}

func TestFrames(t *testing.T) {
	for _, client := range []bool{true, false} {
		for _, n := range []int{0, 1, 3, 125, 126, 127, 1023, 1025, maxPayload, maxPayload + 1, 0xffff, 200_000} {
			want := bytes.Repeat([]byte("0123456"), n/7+1)[:n]
			w, under := reading(nil, client)
			if wrote, err := w.Write(want); wrote != n || err != nil {
				t.Fatal(wrote, err)
			}
			w.Close()
			if client && n > 16 && bytes.Contains(under.out.Bytes(), want[:16]) {
				t.Error("a client's frame is not masked")
			}
			r, _ := reading(under.out.Bytes(), !client)
			got, err := io.ReadAll(r)
			r.Close()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes came as %d, %v", n, len(got), err)
			}
		}
	}
	whole := appendFrame(nil, opBinary, make([]byte, 0x10000), false) // longer than what we write
	r, _ := reading(whole, true)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || len(got) != 0x10000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestControls(t *testing.T) {
	in := appendFrame(nil, opPing, []byte("you there"), true)
	in = append(in, appendFrame(nil, opPong, nil, true)...)
	in = append(in, appendFrame(nil, opBinary, []byte("x"), true)...)
	in = append(in, appendFrame(nil, opClose, []byte{3, 232}, true)...)
	r, under := reading(append(in, "more"...), false)
	if got, err := io.ReadAll(r); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if want := appendFrame(nil, opPong, []byte("you there"), false); !bytes.Equal(under.out.Bytes(), want) {
		t.Errorf("the ping was answered with %x", under.out.Bytes())
	}
}

func TestBadFrames(t *testing.T) {
	for name, b := range map[string][]byte{
		"not masked":             {0x82, 1, 'x'},
		"reserved bits":          {0xc2, 0x81, 0, 0, 0, 0, 'x'},
		"text":                   {0x81, 0x81, 0, 0, 0, 0, 'x'},
		"an unknown opcode":      {0x83, 0x81, 0, 0, 0, 0, 'x'},
		"a ping in pieces":       {0x09, 0x81, 0, 0, 0, 0, 'x'},
		"a long ping":            {0x89, 0xfe, 0, 126, 0, 0, 0, 0},
		"a very long frame":      {0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0},
		"a negative length":      {0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"another unknown opcode": {0x8f, 0x80, 0, 0, 0, 0},
	} {
		r, _ := reading(b, false)
		if _, err := io.ReadAll(r); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A client that has nothing to say pings, and one that is busy does not.
func TestPings(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := newConn(a, bufio.NewReader(a), true, time.Millisecond)
	defer c.Close()
	for range 3 {
		if h, err := readHead(b, true); err != nil || h.op != opPing || h.length != 0 {
			t.Fatalf("%+v, %v", h, err)
		}
	}
}

func FuzzConn(f *testing.F) {
	f.Add(appendFrame(nil, opBinary, []byte("x"), true), false)
	f.Add(appendFrame(appendFrame(nil, opPing, []byte("x"), false), opClose, nil, false), true)
	f.Add(appendFrame(nil, opContinuation, make([]byte, 200), true), false)
	f.Fuzz(func(t *testing.T, b []byte, client bool) {
		r, under := reading(b, client)
		defer r.Close()
		got, _ := io.ReadAll(r)
		if len(got) > len(b) || under.out.Len() > 4*len(b) {
			t.Errorf("of %d bytes %d were read and %d written", len(b), len(got), under.out.Len())
		}
	})
}

// answer is what a front says: SETTINGS with RFC 8441, the page, the WebSocket, and some bytes on it.
func answer() []byte {
	var b, block bytes.Buffer
	f := http2.NewFramer(&b, nil)
	f.WriteSettings(http2.Setting{ID: settingConnect, Val: 1}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	enc := hpack.NewEncoder(&block)
	enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	enc.WriteField(hpack.HeaderField{Name: "set-cookie", Value: "sid=00112233445566778899aabbccddeeff; Path=/"})
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: pageStream, BlockFragment: block.Bytes(), EndHeaders: true})
	f.WriteDataPadded(pageStream, true, []byte("page"), make([]byte, 9))
	block.Reset()
	enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: tunnelStream, BlockFragment: block.Bytes(), EndHeaders: true})
	f.WritePing(false, [8]byte{1})
	f.WriteWindowUpdate(tunnelStream, 100)
	f.WriteDataPadded(tunnelStream, false, []byte("bytes"), make([]byte, 9))
	f.WriteData(tunnelStream, true, nil)
	return b.Bytes()
}

func talk(b []byte) (got []byte, err error) {
	h := newH2(&canned{in: bytes.NewReader(b)})
	defer h.Close()
	if _, err := h.page("site.example"); err != nil {
		return nil, err
	}
	c, err := h.open(context.Background(), "site.example", "a=b; c=d")
	if err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}

func TestH2(t *testing.T) {
	if got, err := talk(answer()); string(got) != "bytes" || err != nil {
		t.Errorf("%q came, %v", got, err)
	}
}

func FuzzH2(f *testing.F) {
	f.Add(answer())
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _ := talk(b); len(got) > len(b) {
			t.Errorf("of %d bytes %d were read", len(b), len(got))
		}
	})
}
