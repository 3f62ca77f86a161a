package doctor

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// says makes an answer to a question.
func says(t testing.TB, question []byte, addrs ...[4]byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		t.Error(err)
		return nil
	}
	m.Response = true
	for _, a := range addrs {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA,
			Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: a}})
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// All answers to one question are heard, in order, and one that is to another question is not.
func TestExchange(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		b := make([]byte, 1500)
		n, from, err := udp.ReadFromUDP(b)
		if err != nil {
			return
		}
		other := append([]byte(nil), b[:n]...)
		other[0] ^= 0xff
		for _, answer := range [][]byte{says(t, b[:n], [4]byte{192, 0, 2, 1}), says(t, other, [4]byte{192, 0, 2, 9}), b[:n],
			says(t, b[:n], [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2})} {
			udp.WriteToUDP(answer, from)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	p := &probes{cfg: Config{Dial: systemDial}, names: []string{"", "name.example"}}
	q := Question{Name: 1}
	p.question(t.Context(), &q, udp.LocalAddr().(*net.UDPAddr).AddrPort())
	if q.Outcome != OK || len(q.Answers) != 2 || q.Answers[0].Class == q.Answers[1].Class || q.Answers[0].Private || !q.Answers[1].Private {
		t.Errorf("%+v", q)
	}
}

// By TCP the first answer is enough.
func TestExchangeTCP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 1500)
		n, _ := io.ReadAtLeast(c, b, 14)
		answer := says(t, b[2:n], [4]byte{192, 0, 2, 1})
		c.Write(append([]byte{0, byte(len(answer))}, answer...))
	}()
	p := &probes{cfg: Config{Dial: systemDial}}
	all, err := p.exchange(t.Context(), "tcp", l.Addr().(*net.TCPAddr).AddrPort(), "name.example", dnsmessage.TypeA, true)
	if err != nil || len(all) != 1 || len(all[0].addrs) != 1 || all[0].addrs[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("%+v, %v", all, err)
	}
	if outcome(errors.Join(io.EOF)) != Closed {
		t.Error("an end is none")
	}
}

func FuzzParseReply(f *testing.F) {
	name := dnsmessage.MustNewName("name.example.")
	q := dnsmessage.Question{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{q}}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(says(f, b, [4]byte{192, 0, 2, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := parseReply(b, 7, q); !ok && len(r.addrs) > 0 {
			t.Error("addresses of what is no answer")
		}
	})
}
