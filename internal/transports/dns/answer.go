package dns

import (
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// Modes are the types of records that can carry an answer, as a resolver may drop all but the ordinary ones.
//
//	TXT    strings of 255 bytes
//	NULL   bytes
//	CNAME  a name under the zone
//	AAAA   0x20 + number, 15 bytes; the first of all bytes says how many at the end are none
//	A      0x40 + number, 3 bytes; likewise
//
// Resolvers shuffle records of a type, so those that are many are numbered. Their addresses are none that resolvers
// refuse as private.
var modes = []uint16{dns.TypeTXT, dns.TypeNULL, dns.TypeCNAME, dns.TypeAAAA, dns.TypeA}

const (
	minMessage = 512  // what every resolver takes (RFC 1035, section 4.2.1)
	maxMessage = 1232 // what crosses every path unfragmented (DNS flag day 2020)

	recordHead = 12 // a pointer to the name, type, class, TTL, length
	optLen     = 11
	maxRecords = 32
)

// answerRoom is how many bytes an answer of a type can hold in a message of a size that repeats a name of so many
// letters, without its last dot.
func answerRoom(mode uint16, size, name int, edns bool, zone string) int {
	left := size - 12 - (name + 2) - 4
	if edns {
		left -= optLen
	}
	room := 0
	switch mode {
	case dns.TypeTXT:
		if left -= recordHead; left > 0 {
			room = left - (left+255)/256
		}
	case dns.TypeNULL:
		room = left - recordHead
	case dns.TypeCNAME:
		// The zone is a pointer, and each label has its length before it.
		room = nameRoom(min(MaxName, left-recordHead-2-1+len(zone)+1), zone)
	case dns.TypeAAAA:
		room = min(maxRecords, left/(recordHead+16))*15 - 1
	case dns.TypeA:
		room = min(maxRecords, left/(recordHead+4))*3 - 1
	}
	return max(room, 0)
}

// answerRecords returns data as records of a type.
func answerRecords(mode uint16, owner string, data []byte, zone string) []dns.RR {
	head := dns.RR_Header{Name: owner, Rrtype: mode, Class: dns.ClassINET} // TTL 0: not for caches
	numbered := func(first byte, each int, record func(b []byte) dns.RR) (all []dns.RR) {
		pad := (each - (len(data)+1)%each) % each
		data = append(append([]byte{byte(pad)}, data...), make([]byte, pad)...)
		for i := 0; i*each < len(data); i++ {
			all = append(all, record(append([]byte{first + byte(i)}, data[i*each:(i+1)*each]...)))
		}
		return all
	}
	switch mode {
	case dns.TypeTXT:
		txt := &dns.TXT{Hdr: head}
		for len(data) > 0 {
			n := min(len(data), 255)
			txt.Txt = append(txt.Txt, escapeTXT(data[:n]))
			data = data[n:]
		}
		return []dns.RR{txt}
	case dns.TypeNULL:
		return []dns.RR{&dns.NULL{Hdr: head, Data: string(data)}}
	case dns.TypeCNAME:
		return []dns.RR{&dns.CNAME{Hdr: head, Target: string(appendName(nil, data, zone))}}
	case dns.TypeAAAA:
		return numbered(0x20, 15, func(b []byte) dns.RR { return &dns.AAAA{Hdr: head, AAAA: b} })
	default:
		return numbered(0x40, 3, func(b []byte) dns.RR { return &dns.A{Hdr: head, A: b} })
	}
}

// escapeTXT writes bytes as the library wants strings: what is not plain as \DDD.
func escapeTXT(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			s.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
		} else {
			s.WriteByte(c)
		}
	}
	return s.String()
}

// unescapeTXT is escapeTXT's other way, for whatever the library writes.
func unescapeTXT(b []byte, s string) []byte {
	digit := func(i int) bool { return i < len(s) && s[i] >= '0' && s[i] <= '9' }
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case digit(i+1) && digit(i+2) && digit(i+3):
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
		default:
			b = append(b, s[i+1])
			i++
		}
	}
	return b
}

var errAnswer = errors.New("no answer of ours")

// parseAnswer returns what an answer's records of a type hold.
func parseAnswer(mode uint16, records []dns.RR, zone string) ([]byte, error) {
	var data []byte
	var parts [maxRecords][]byte
	count := 0
	part := func(first byte, b []byte) bool {
		i := int(b[0]) - int(first)
		if i < 0 || i >= maxRecords || parts[i] != nil {
			return false
		}
		parts[i] = b[1:]
		count++
		return true
	}
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.TXT:
			if mode == dns.TypeTXT {
				for _, s := range rr.Txt {
					data = unescapeTXT(data, s)
				}
				return data, nil
			}
		case *dns.NULL:
			if mode == dns.TypeNULL {
				return []byte(rr.Data), nil
			}
		case *dns.CNAME:
			if mode == dns.TypeCNAME {
				return parseName(rr.Target, zone)
			}
		case *dns.AAAA:
			if ip := rr.AAAA.To16(); mode == dns.TypeAAAA && (ip == nil || !part(0x20, ip)) {
				return nil, errAnswer
			}
		case *dns.A:
			if ip := rr.A.To4(); mode == dns.TypeA && (ip == nil || !part(0x40, ip)) {
				return nil, errAnswer
			}
		}
	}
	for _, p := range parts[:count] { // nil where one is missing
		if p == nil {
			return nil, errAnswer
		}
		data = append(data, p...)
	}
	if len(data) == 0 || int(data[0]) >= len(data) {
		return nil, errAnswer
	}
	return data[1 : len(data)-int(data[0])], nil
}
