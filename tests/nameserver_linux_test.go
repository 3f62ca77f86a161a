package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// bigText is longer than the 512 bytes that every resolver takes, and than one TXT string.
var bigText = []string{strings.Repeat("g", 255), strings.Repeat("o", 255), strings.Repeat("d", 255), "wit"}

// zone is what the world's name server knows.
func zone(ipv6 bool) map[string][]dnsmessage.ResourceBody {
	four := &dnsmessage.AResource{A: netip.MustParseAddr(webAddr).As4()}
	six := &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(webAddr6).As16()}
	z := map[string][]dnsmessage.ResourceBody{
		"site.test.": {four},
		"v4.test.":   {four},
		"v6.test.":   {six},
		"big.test.":  {&dnsmessage.TXTResource{TXT: bigText}},
		"ns.test.":   {&dnsmessage.AResource{A: netip.MustParseAddr(dnsAddr).As4()}},
	}
	if ipv6 {
		z["eyeballs.test."] = []dnsmessage.ResourceBody{four, &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(eyeballsAddr6).As16()}}
		z["site.test."] = append(z["site.test."], six)
	}
	return z
}

// A nameServer answers for a zone and remembers what it was asked.
type nameServer struct {
	mu    sync.Mutex
	zone  map[string][]dnsmessage.ResourceBody
	asked []string
}

// newNameServer serves a zone on port 53 of a host's address, over UDP and TCP.
func newNameServer(t *testing.T, h *host, addr string, zone map[string][]dnsmessage.ResourceBody) *nameServer {
	t.Helper()
	s := &nameServer{zone: zone}
	udp := h.listenUDP(t, net.JoinHostPort(addr, "53"))
	tcp := h.listen(t, net.JoinHostPort(addr, "53"))
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := s.answer(buf[:n], true); answer != nil {
				_, _ = udp.WriteTo(answer, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

// serve answers queries on one TCP connection (RFC 1035 §4.2.2).
func (s *nameServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := s.answer(query, false)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answer makes the reply to a query, or nil if it is none.
func (s *nameServer) answer(query []byte, udp bool) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil || head.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(q.Name.String())
	s.mu.Lock()
	if len(s.asked) < 10000 {
		s.asked = append(s.asked, name)
	}
	bodies, exists := s.zone[name]
	s.mu.Unlock()

	limit := 512
	_ = p.SkipAllQuestions()
	_ = p.SkipAllAnswers()
	_ = p.SkipAllAuthorities()
	for h, err := p.AdditionalHeader(); err == nil; h, err = p.AdditionalHeader() {
		if h.Type == dnsmessage.TypeOPT {
			limit = max(limit, int(h.Class))
		}
		_ = p.SkipAdditional()
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true,
			RecursionDesired: head.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if !exists {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, b := range bodies {
		if typeOf(b) == q.Type {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}, Body: b})
		}
	}
	packed, err := m.Pack()
	if err == nil && udp && len(packed) > limit {
		m.Truncated, m.Answers = true, nil
		packed, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}

func typeOf(b dnsmessage.ResourceBody) dnsmessage.Type {
	switch b.(type) {
	case *dnsmessage.AResource:
		return dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		return dnsmessage.TypeAAAA
	default:
		return dnsmessage.TypeTXT
	}
}

// learn has it know one more name.
func (s *nameServer) learn(name string, bodies ...dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.zone == nil {
		s.zone = map[string][]dnsmessage.ResourceBody{}
	}
	s.zone[name] = bodies
}

// names are those asked for that end so.
func (s *nameServer) names(suffix string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.asked {
		if strings.HasSuffix(n, suffix) && !slices.Contains(found, n) {
			found = append(found, n)
		}
	}
	return found
}

// forget forgets what it was asked.
func (s *nameServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
}
