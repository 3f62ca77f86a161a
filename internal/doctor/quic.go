package doctor

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"time"
)

// What is asked of QUIC needs no QUIC: a question for versions, which a server answers without keeping anything (RFC 9000,
// section 6.1), and a first datagram, to which whoever reads it answers something.

// quicVersion is what differs between QUIC's versions in first datagrams.
type quicVersion struct {
	number  uint32
	salt    []byte
	label   string
	initial byte // the type in the first byte
}

var quicVersions = map[int]quicVersion{
	// RFC 9001, section 5.2, and RFC 9369, section 3.3.
	1: {1, []byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f,
		0x0a}, "quic ", 0},
	2: {0x6b3343cf, []byte{0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
		0xbd, 0x2e, 0xd9}, "quicv2 ", 1},
}

const (
	// datagramSize is that of Chrome's first datagrams; a server answers none under 1200.
	datagramSize = 1250
	idLen        = 8
	// mostCrypto is how much of a hello is put in one datagram.
	mostCrypto = 1100
)

// firstDatagrams makes a client's first flight, with its source connection id, which answers go to.
func firstDatagrams(v quicVersion, name string, split bool) (all [][]byte, id []byte, err error) {
	ids := make([]byte, 2*idLen)
	rand.Read(ids)
	to, id := ids[:idLen], ids[idLen:]
	hello, err := quicHello(name, id, split)
	if err != nil {
		return nil, nil, err
	}
	for offset, n := 0, uint32(0); offset < len(hello); n++ {
		part := hello[offset:min(offset+mostCrypto, len(hello))]
		d, err := v.seal(to, id, n, offset, part)
		if err != nil {
			return nil, nil, err
		}
		all, offset = append(all, d), offset+len(part)
	}
	return all, id, nil
}

// quicHello is Go's ClientHello for QUIC. With a post-quantum key it does not fit into one datagram.
func quicHello(name string, id []byte, postQuantum bool) ([]byte, error) {
	conf := &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"}}
	if !postQuantum {
		conf.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	c := tls.QUICClient(&tls.QUICConfig{TLSConfig: conf})
	defer c.Close()
	parameters := append([]byte{0x0f, byte(len(id))}, id...) // initial_source_connection_id
	for _, p := range []byte{0x04, 0x05, 0x06, 0x07} {       // how much may be sent
		parameters = append(parameters, p, 4, 0x80, 0x10, 0, 0)
	}
	parameters = append(parameters, 0x08, 2, 0x40, 100, 0x09, 2, 0x40, 100) // on how many streams
	c.SetTransportParameters(parameters)
	if err := c.Start(context.Background()); err != nil {
		return nil, err
	}
	var hello []byte
	for {
		switch e := c.NextEvent(); e.Kind {
		case tls.QUICWriteData:
			hello = append(hello, e.Data...)
		case tls.QUICNoEvent:
			if len(hello) == 0 {
				return nil, errors.New("crypto/tls has no hello")
			}
			return hello, nil
		}
	}
}

// secret is what the client's keys are made of, for a connection to that id.
func (v quicVersion) secret(to []byte) ([]byte, error) {
	initial, err := hkdf.Extract(sha256.New, to, v.salt)
	if err != nil {
		return nil, err
	}
	return expandLabel(initial, "client in", sha256.Size)
}

// seal makes an Initial packet with one CRYPTO frame, padded to a datagram (RFC 9000, section 17.2.2; RFC 9001, section 5).
func (v quicVersion) seal(to, from []byte, number uint32, offset int, crypto []byte) ([]byte, error) {
	secret, err := v.secret(to)
	if err != nil {
		return nil, err
	}
	key, err1 := expandLabel(secret, v.label+"key", 16)
	iv, err2 := expandLabel(secret, v.label+"iv", 12)
	hp, err3 := expandLabel(secret, v.label+"hp", 16)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	payload := append([]byte{0x06}, binary.BigEndian.AppendUint16(nil, 0x4000|uint16(offset))...)
	payload = binary.BigEndian.AppendUint16(payload, 0x4000|uint16(len(crypto)))
	payload = append(payload, crypto...)
	const tag, numberLen = 16, 1
	header := []byte{0xc0 | v.initial<<4 | numberLen - 1}
	header = binary.BigEndian.AppendUint32(header, v.number)
	header = append(append(header, idLen), to...)
	header = append(append(header, idLen), from...)
	header = append(header, 0) // no token
	rest := datagramSize - len(header) - 2
	header = binary.BigEndian.AppendUint16(header, 0x4000|uint16(rest))
	header = append(header, byte(number))
	payload = append(payload, make([]byte, max(0, rest-numberLen-tag-len(payload)))...) // PADDING
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	iv[11] ^= byte(number)
	d := aead.Seal(slices.Clone(header), iv, payload, header)
	// The sample is where it would be if the number had four bytes.
	at := len(header) - numberLen
	if block, err = aes.NewCipher(hp); err != nil {
		return nil, err
	}
	mask := make([]byte, 16)
	block.Encrypt(mask, d[at+4:at+20])
	d[0] ^= mask[0] & 0x0f
	d[at] ^= mask[1]
	return d, nil
}

// expandLabel is TLS 1.3's (RFC 8446, section 7.1).
func expandLabel(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	return hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
}

// versionQuestion asks for versions, with one that nobody has (RFC 9000, section 15).
func versionQuestion(id []byte) []byte {
	d := make([]byte, datagramSize)
	rand.Read(d)
	d[0] |= 0xc0
	for i := 1; i < 5; i++ {
		d[i] = d[i]&0xf0 | 0x0a
	}
	d[5] = idLen
	d[6+idLen] = idLen
	copy(d[7+idLen:], id)
	return d
}

// answersTo reports whether a datagram is a server's with a long header, to the client's connection id.
func answersTo(d, id []byte) bool {
	return len(d) > 6+len(id) && d[0]&0x80 != 0 && int(d[5]) == len(id) && bytes.Equal(d[6:6+len(id)], id)
}

// quicTimes are when a first flight is sent; the answer is waited for a while after the last.
var quicTimes = []time.Duration{0, 700 * time.Millisecond, 1800 * time.Millisecond}

const quicTime = 3500 * time.Millisecond

// begin sends a first flight on a socket until something answers.
func begin(ctx context.Context, c net.Conn, v quicVersion, name string, split bool) Outcome {
	flight, id, err := firstDatagrams(v, name, split)
	if err != nil {
		return Untested
	}
	began := time.Now()
	buf := make([]byte, 2048)
	refusals := 0
	for i := range quicTimes {
		for _, d := range flight {
			if _, err := c.Write(d); err != nil && !refused(err) {
				return outcome(err)
			}
		}
		until := began.Add(quicTime)
		if i+1 < len(quicTimes) {
			until = began.Add(quicTimes[i+1])
		}
		for ctx.Err() == nil {
			c.SetReadDeadline(until)
			n, err := c.Read(buf)
			if refused(err) {
				if refusals++; refusals > 2 {
					return Refused
				}
				continue
			} else if err != nil {
				break
			}
			if answersTo(buf[:n], id) {
				return OK
			}
		}
	}
	return Silent
}

// initial begins a connection, and looks whether others still can right after.
func (p *probes) initial(ctx context.Context, place int, port uint16, version, name int, split bool) Initial {
	s := Initial{Place: place, Port: port, Version: version, Name: name, Split: split, Again: Untested, Fresh: Untested}
	open := func() net.Conn {
		p.space.wait(ctx, betweenTLS)
		c, err := p.cfg.Dial(ctx, "udp", 0, p.at(place, port))
		if err != nil {
			s.Outcome = outcome(err)
			return nil
		}
		return c
	}
	c := open()
	if c == nil {
		return s
	}
	defer c.Close()
	s.Outcome = begin(ctx, c, quicVersions[version], p.names[name], split)
	if name == 0 {
		return s
	}
	// A firewall that only looks lets the first exchange pass, and drops what comes later.
	sleep(ctx, time.Second)
	s.Again = begin(ctx, c, quicVersions[version], "", false)
	for range 2 { // once can be an accident
		fresh := open()
		if fresh == nil {
			break
		}
		s.Fresh = begin(ctx, fresh, quicVersions[version], "", false)
		fresh.Close()
		if s.Fresh != Silent {
			break
		}
	}
	return s
}

// datagrams asks for versions so many times, and says at how many bits a second that came out.
func datagrams(ctx context.Context, c net.Conn, count int, apart time.Duration) (answered string, rate float64, nobody bool) {
	ids := make([][]byte, count)
	got := bytes.Repeat([]byte("0"), count)
	for i := range ids {
		ids[i] = make([]byte, idLen)
		rand.Read(ids[i])
		binary.BigEndian.PutUint16(ids[i], uint16(i))
	}
	began := time.Now()
	c.SetReadDeadline(time.Time{}) // until all is sent, however long a busy machine takes
	done := make(chan bool, 1)
	go func() {
		buf := make([]byte, 2048)
		refusals := 0
		for left := count; left > 0; {
			n, err := c.Read(buf)
			if refused(err) {
				if refusals++; refusals > 2 {
					break
				}
				continue
			} else if err != nil {
				break
			}
			if n > 8 && n >= 6+idLen && int(buf[5]) == idLen {
				i := int(binary.BigEndian.Uint16(buf[6:]))
				if i < count && got[i] == '0' && answersTo(buf[:n], ids[i]) {
					got[i] = '1'
					left--
				}
			}
		}
		done <- refusals > 2
	}()
	for i := range ids {
		if ctx.Err() != nil {
			break
		}
		c.Write(versionQuestion(ids[i])) // what cannot be sent is not answered
		sleep(ctx, apart)                // and no less if this machine is busy: servers drop what comes in bursts
	}
	rate = float64(count) * datagramSize * 8 / time.Since(began).Seconds()
	c.SetReadDeadline(time.Now().Add(3 * time.Second / 2))
	nobody = <-done
	return string(got), rate, nobody
}
