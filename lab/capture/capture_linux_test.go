package capture

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// TestCapture sees a word go out and come in, and nothing after Stop.
func TestCapture(t *testing.T) {
	netnstest.Need(t)
	var hosts [2]*netns.Host
	for i, name := range []string{"a", "b"} {
		h, err := netns.NewHost(name)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		hosts[i] = h
	}
	if err := netns.Connect(hosts[0], "eth0", hosts[1], "eth0"); err != nil {
		t.Fatal(err)
	}
	for i, h := range hosts {
		if err := h.AddAddr("eth0", netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 24), ""); err != nil {
			t.Fatal(err)
		}
		if err := h.OffloadsOff("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Start(hosts[0], "nonesuch", 0); err == nil {
		t.Error("captured on an interface that is not there")
	}
	c, err := Start(hosts[0], "eth0", 0)
	if err != nil {
		t.Fatal(err)
	}
	few, err := Start(hosts[0], "eth0", 1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := hosts[1].Listen(netip.MustParseAddrPort("192.0.2.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := hosts[0].Dial(netip.MustParseAddrPort("192.0.2.2:7"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	conn.Write([]byte("there"))
	far.Read(make([]byte, 5))
	far.Write([]byte("back again"))
	conn.Read(make([]byte, 10))

	has := func(word string, outgoing bool) bool {
		for _, f := range c.Frames() {
			if f.Outgoing == outgoing && f.Length == len(f.Data) && bytes.HasSuffix(f.Data, []byte(word)) {
				return true
			}
		}
		return false
	}
	for begin := time.Now(); !has("there", true) || !has("back again", false); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("not seen among %d frames", len(c.Frames()))
		}
	}
	if last := c.Stop(); len(last) < 5 || last[len(last)-1].At <= 0 {
		t.Errorf("%d frames, %+v", len(last), last)
	}
	if n := len(few.Stop()); n != 1 {
		t.Errorf("%d frames, want the first only", n)
	}
}
