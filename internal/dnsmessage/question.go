package dnsmessage

import (
	"encoding/binary"
	"strings"
)

// Question is what is asked, apart from who asks.
type Question struct {
	wire   string // the name as on the wire, in lower case
	Type   uint16
	class  uint16
	DO, CD bool // with signatures; unchecked
}

// NewQuestion makes one for a name in text form, without escapes. It reports false if there can be no such name.
func NewQuestion(name string, typ uint16) (Question, bool) {
	var b []byte
	if name = strings.TrimSuffix(name, "."); name != "" {
		for label := range strings.SplitSeq(name, ".") {
			if label == "" || len(label) > maxLabel {
				return Question{}, false
			}
			b = append(append(b, byte(len(label))), lower(label)...)
		}
	}
	b = append(b, 0)
	return Question{wire: string(b), Type: typ, class: classIN}, len(b) <= maxName
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Name is the name in text form, in lower case and without the last dot; the root is "". Bytes that are not plain are
// escaped as \DDD, so that no name looks like another one.
func (q Question) Name() string {
	var s strings.Builder
	for i := 0; i < len(q.wire) && q.wire[i] != 0; i += 1 + int(q.wire[i]) {
		if i > 0 {
			s.WriteByte('.')
		}
		for _, c := range []byte(q.wire[i+1 : i+1+int(q.wire[i])]) {
			if c <= ' ' || c > '~' || c == '.' || c == '\\' {
				s.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
			} else {
				s.WriteByte(c)
			}
		}
	}
	return s.String()
}

// Query is a question with what its asker said beside it.
type Query struct {
	Question
	id     uint16
	flags  uint16
	asked  string // the question in the asker's own spelling
	edns   bool
	size   int   // of an answer by UDP
	badAsk RCode // what is wrong with it, though it can be read
}

// ParseQuery reads a question. If that is none to look for an answer to, ok is false, and reply what to say to it, or nil
// if nothing is.
func ParseQuery(b []byte) (q Query, reply []byte, ok bool) {
	if len(b) < headLen || len(b) > MaxQuery {
		return Query{}, nil, false
	}
	q.id, q.flags = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if q.flags&flagQR != 0 {
		return Query{}, nil, false
	}
	if q.flags&maskOpcode != 0 {
		return q, q.Fail(NotImp), false
	}
	if err := q.parse(b); err != nil {
		return q, q.Fail(FormErr), false
	}
	if q.badAsk != 0 {
		return q, q.Fail(q.badAsk), false
	}
	return q, nil, true
}

func (q *Query) parse(b []byte) error {
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return errQuestion
	}
	n, err := skipName(b, headLen, false)
	if err != nil {
		return err
	}
	if len(b) < n+4 {
		return errShort
	}
	q.wire = lower(string(b[headLen:n]))
	q.Type, q.class = binary.BigEndian.Uint16(b[n:]), binary.BigEndian.Uint16(b[n+2:])
	q.asked = string(b[headLen : n+4])
	q.CD = q.flags&flagCD != 0
	err = records(b, n+4, func(section int, r record) error {
		if r.typ != TypeOPT {
			return nil
		}
		if section != additional || q.edns || r.end-r.start != 11+int(r.length) { // its name is the root
			return errQuestion
		}
		q.edns, q.size, q.DO = true, int(r.class), r.ttl&flagDO != 0
		if r.ttl>>16&0xff != 0 {
			q.badAsk = badVers
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case q.badAsk != 0:
	case q.class != classIN:
		q.badAsk = Refused // such as who the resolver is
	case q.Type == typeAXFR || q.Type == typeIXFR || q.Type == TypeOPT || q.Type == 0:
		q.badAsk = NotImp // answers of several messages, and what is none
	}
	return nil
}

// Append appends the question as it is asked of a resolver, with an id: nothing in it tells who asks. So there are no
// options, such as a client's subnet (RFC 7871).
func (q Question) Append(b []byte, id uint16) []byte {
	flags := uint16(flagRD)
	if q.CD {
		flags |= flagCD
	}
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 1, 0, 0, 0, 0, 0, 1)
	b = q.appendTo(b)
	return appendOPT(b, safeUDP, 0, q.DO)
}

func (q Question) appendTo(b []byte) []byte {
	b = append(b, q.wire...)
	b = binary.BigEndian.AppendUint16(b, q.Type)
	return binary.BigEndian.AppendUint16(b, q.class)
}

func appendOPT(b []byte, size int, extended RCode, do bool) []byte {
	b = append(b, 0, 0, TypeOPT)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	ttl := uint32(extended) << 24
	if do {
		ttl |= flagDO
	}
	b = binary.BigEndian.AppendUint32(b, ttl)
	return append(b, 0, 0)
}
