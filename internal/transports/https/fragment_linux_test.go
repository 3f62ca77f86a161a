package https_test

import (
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// A gateway is reached whichever way the hello is cut, and on the wire it comes in as many segments as that says.
func TestFragments(t *testing.T) {
	for _, c := range []struct {
		how      transport.Fragment
		segments uint32 // on a loopback, where a whole hello fits into one
	}{{transport.FragmentNone, 1}, {transport.FragmentTCP, 2}, {transport.FragmentRecord, 1}, {transport.FragmentBoth, 2}} {
		t.Run(c.how.String(), func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.World {
				w := start(t)
				w.Endpoint.Fragment = c.how
				return w
			})
			if n := helloSegments(t, c.how); n != c.segments {
				t.Errorf("a hello of %d segments, want %d", n, c.segments)
			}
		})
	}
}

// helloSegments dials a server that listens and says nothing, until it has a whole hello, and says how many segments had
// something in them.
func helloSegments(t *testing.T, how transport.Fragment) (n uint32) {
	t.Helper()
	w := start(t)
	w.Endpoint.Fragment = how
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.Endpoint.Addr = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Dialer.Dial(t.Context(), w.Endpoint)
	}()
	defer func() { <-done }()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got []byte
	for want := 9; len(got) < want; {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, b[:n]...); len(got) >= 9 {
			want = 9 + int(binary.BigEndian.Uint16(got[7:9])) // a record's header, a message's header, and the message
			if how == transport.FragmentRecord || how == transport.FragmentBoth {
				want += 5
			}
		}
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Error(err)
			return
		}
		n = info.Data_segs_in
	})
	return n
}
