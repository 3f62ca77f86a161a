package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

func FuzzRequest(f *testing.F) {
	f.Add(connectMsg("192.0.2.1", 443))
	f.Add(connectMsg("2001:db8::1", 53))
	f.Add(connectMsg("::ffff:192.0.2.1", 53))
	f.Add(append(connectMsg("site.example", 80), "pipelined"...))
	f.Add([]byte("\x05\x03\x00\x03\x00\x00\x00"))
	f.Add([]byte("\x05\x01\x00\x07"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		cmd, a, err := readRequest(r)
		if err != nil {
			return
		}
		took := b[:len(b)-r.Len()]
		var again []byte
		if a.name != "" {
			again = requestMsg(cmd, "", 0)[:3]
			again = append(append(again, addrName, byte(len(a.name))), a.name...)
			again = append(again, byte(a.port>>8), byte(a.port))
		} else {
			again = appendAddress([]byte{socks5Version, cmd, 0}, netip.AddrPortFrom(a.ip, a.port))
		}
		mapped := took[3] == addrIPv6 && a.ip.Is4() // is written shorter
		again[2] = took[2]                          // reserved: we read anything and write 0
		if !mapped && !bytes.Equal(again, took) {
			t.Errorf("%x read as %v, written as %x", took, a, again)
		}
		checkTarget(t, a)
	})
}

func checkTarget(t *testing.T, a address) {
	t.Helper()
	target, err := a.target()
	if err != nil {
		return
	}
	if target.Port == 0 || target.Host == "" || len(target.Host) > flow.MaxHost {
		t.Errorf("%v became %v", a, target)
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add(datagram("192.0.2.1", 443, "payload"))
	f.Add(datagram("2001:db8::1", 53, ""))
	f.Add(datagram("site.example", 53, "payload"))
	f.Add([]byte{0, 0, 1, 1, 1, 2, 3, 4, 0, 53})
	f.Add([]byte{0, 0, 0, 3, 255, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		to, payload, err := parseDatagram(b)
		if err != nil {
			return
		}
		if to.port == 0 || (to.name == "") != to.ip.IsValid() || len(to.name) > 255 {
			t.Errorf("%x parsed as %v", b, to)
		}
		if !bytes.HasSuffix(b, payload) {
			t.Errorf("payload %x is not the end of %x", payload, b)
		}
		if to.name == "" {
			again := append(appendDatagramHeader(nil, netip.AddrPortFrom(to.ip, to.port)), payload...)
			to2, payload2, err := parseDatagram(again)
			if err != nil || to2 != to || !bytes.Equal(payload, payload2) {
				t.Errorf("%x written as %x, read as %v %x %v", b, again, to2, payload2, err)
			}
		}
		checkTarget(t, to)
	})
}

func FuzzGreetingAndLogin(f *testing.F) {
	f.Add([]byte("\x05\x02\x00\x02\x01\x03ann\x06secret"))
	f.Add([]byte("\x05\x00\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		methods, err := readGreeting(r)
		if err != nil {
			return
		}
		user, password, err := readLogin(r)
		if err != nil {
			return
		}
		again := append([]byte{5, byte(len(methods))}, methods...)
		again = append(append(again, 1, byte(len(user))), user...)
		again = append(append(again, byte(len(password))), password...)
		if took := b[:len(b)-r.Len()]; !bytes.Equal(again, took) {
			t.Errorf("%x read as %x %q %q", took, methods, user, password)
		}
	})
}

// nowhere opens nothing, and checks what it is asked for.
type nowhere struct {
	mu    sync.Mutex
	wrong []flow.Target
}

func (n *nowhere) Open(_ context.Context, t flow.Target, early bool) (flow.Stream, error) {
	if again, err := flow.NewTarget(t.Host, t.Port); err != nil || again != t || early != t.Early() {
		n.mu.Lock()
		n.wrong = append(n.wrong, t)
		n.mu.Unlock()
	}
	return nil, flow.Errorf(flow.CodeDenied, "nowhere")
}
func (n *nowhere) Resolve(context.Context, string) ([]netip.Addr, error) {
	return nil, flow.Errorf(flow.CodeNameNotFound, "nowhere")
}
func (n *nowhere) ListenPacket(context.Context) (net.PacketConn, error) {
	return nil, flow.Errorf(flow.CodeDenied, "nowhere")
}

// FuzzConnection gives any bytes to a whole server: it must end the connection, in one of its protocols' words or
// without any, and ask the Outside only for what can be opened.
func FuzzConnection(f *testing.F) {
	f.Add([]byte("GET http://site.example/ HTTP/1.1\r\nHost: site.example\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	f.Add([]byte("POST http://site.example:81/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("GET http://site.example/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
	f.Add([]byte("CONNECT site.example:443 HTTP/1.0\r\n\r\n\x16\x03\x01"))
	f.Add(append([]byte("\x05\x01\x00"), connectMsg("site.example", 443)...))
	f.Add(append([]byte("\x05\x02\x00\x02"), requestMsg(cmdAssociate, "0.0.0.0", 0)...))
	f.Add([]byte("\x04\x01\x00\x50\x01\x02\x03\x04\x00"))
	f.Add([]byte("\x16\x03\x01\x00\x05"))

	out := new(nowhere)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1) // Serve's result
	go func() { served <- New(Config{Outside: out, FirstRequest: time.Second}).Serve(ctx, ln) }()
	f.Cleanup(func() { cancel(); <-served })

	f.Fuzz(func(t *testing.T, b []byte) {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := nc.(*net.TCPConn)
		defer reset(c) // leaves no port waiting
		c.SetDeadline(time.Now().Add(10 * time.Second))
		go func() {
			c.Write(b)
			c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%q: not ended after 10 s, having said %q", b, got)
		}
		if len(got) > 0 && !bytes.HasPrefix(got, []byte("HTTP/1.")) && got[0] != 5 &&
			!bytes.HasPrefix(got, []byte{0, 91}) {
			t.Errorf("%q: answered %q", b, got)
		}
		out.mu.Lock()
		defer out.mu.Unlock()
		if len(out.wrong) > 0 {
			t.Errorf("%q: asked for %q", b, out.wrong)
		}
	})
}
