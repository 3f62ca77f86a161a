package tun

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"testing"

	"github.com/godwit-vpn/godwit/internal/packet"
)

// pieceFile gives what is written to it back, a write at a time, as a TUN's other end would see it.
type pieceFile struct{ all [][]byte }

func (p *pieceFile) Read(b []byte) (int, error) {
	if len(p.all) == 0 {
		return 0, os.ErrClosed
	}
	n := copy(b, p.all[0])
	p.all = p.all[1:]
	return n, nil
}

func (p *pieceFile) Write(b []byte) (int, error) {
	p.all = append(p.all, bytes.Clone(b))
	return len(b), nil
}

func (p *pieceFile) Close() error { return nil }

var _ io.ReadWriteCloser = (*pieceFile)(nil)

// On Apple's systems each packet has its address family in front, and its checksum made.
func TestUtun(t *testing.T) {
	f := &pieceFile{}
	d := newUtun(f)
	for _, c := range []struct {
		src, dst string
		head     []byte
	}{{"192.0.2.1:7", "192.0.2.2:8", []byte{0, 0, 0, 2}}, {"[2001:db8::1]:7", "[2001:db8::2]:8", []byte{0, 0, 0, 30}}} {
		b, err := packet.AppendUDP(nil, netip.MustParseAddrPort(c.src), netip.MustParseAddrPort(c.dst), []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Write(Frame{Packet: bytes.Clone(b)}); err != nil {
			t.Fatal(err)
		}
		if got := f.all[len(f.all)-1]; !bytes.Equal(got, append(bytes.Clone(c.head), b...)) {
			t.Errorf("written: %x", got)
		}
		f.all = append([][]byte{{0, 0, 0, 2}, {}}, f.all...) // with no packet: skipped
		got, err := d.Read(make([]byte, maxFrame))
		if err != nil || got.Partial || got.SegmentSize != 0 || !bytes.Equal(got.Packet, b) {
			t.Errorf("read: %+v, %v", got, err)
		}
	}
	s, err := packet.AppendTCP(nil, netip.MustParseAddrPort("192.0.2.1:7"), netip.MustParseAddrPort("192.0.2.2:8"), 1, 2, 0x10)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(s)
	// The pseudo-header's sum: what a listener's kernel leaves where the rest is left to be made.
	sum := uint32(192<<8) + 0x0201 + 192<<8 + 0x0202 + packet.ProtoTCP + uint32(len(s)-20)
	sum = sum&0xffff + sum>>16
	s[36], s[37] = byte(sum>>8), byte(sum)
	if err := d.Write(Frame{Packet: s, Partial: true, SumFrom: 20, SumAt: 36}); err != nil {
		t.Fatal(err)
	}
	if got := f.all[len(f.all)-1]; !bytes.Equal(got[utunHeader:], want) {
		t.Errorf("a checksum left to be made: %x, want %x", got[utunHeader:], want)
	}
	f.all = nil
	if _, err := d.Read(make([]byte, maxFrame)); err != os.ErrClosed {
		t.Errorf("at its end: %v", err)
	}
	if err := d.Write(Frame{}); err == nil {
		t.Error("no packet was written")
	}
}

// A device of whole packets gets them with their checksum made, and gives them as they are.
func TestPackets(t *testing.T) {
	f := &pieceFile{}
	d := NewPackets(f)
	s, err := packet.AppendTCP(nil, netip.MustParseAddrPort("192.0.2.1:7"), netip.MustParseAddrPort("192.0.2.2:8"), 1, 2, 0x10)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(s)
	sum := uint32(192<<8) + 0x0201 + 192<<8 + 0x0202 + packet.ProtoTCP + uint32(len(s)-20) // the pseudo-header's
	sum = sum&0xffff + sum>>16
	s[36], s[37] = byte(sum>>8), byte(sum)
	if err := d.Write(Frame{Packet: s, Partial: true, SumFrom: 20, SumAt: 36}); err != nil {
		t.Fatal(err)
	}
	got, err := d.Read(make([]byte, maxFrame))
	if err != nil || !bytes.Equal(got.Packet, want) || got.Partial {
		t.Errorf("%+v, %v, and it should be %x", got, err, want)
	}
	if got, err := d.Read(make([]byte, maxFrame)); err != os.ErrClosed || len(got.Packet) != 0 {
		t.Errorf("at its end: %+v, %v", got, err)
	}
}
