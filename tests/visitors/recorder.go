package visitors

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Recorder is a web site that notes what its visitors look like: the TLS records of every connection as they pass, and
// what is in them. It answers everything with one small page and its cookies, over HTTP/2.
type Recorder struct {
	cookies []string // the Set-Cookies of every answer
	config  *tls.Config
	tcp     net.Listener

	mu    sync.Mutex
	away  int     // how many more requests are sent elsewhere
	conns []*Conn // in the order of their coming
	wg    sync.WaitGroup
}

// A Conn is one connection.
type Conn struct {
	Hello   []byte   // the record that the ClientHello came in, with its header
	Records []Record // both ways, in the order in which they were read and written here
	Plain   [][]byte // what the client's application records had in them, record by record
	End     string   // how the client ended it
}

// A Record is one TLS record.
type Record struct {
	Up   bool // from the client
	Kind byte // 20 change_cipher_spec, 21 alert, 22 handshake, 23 all that is encrypted
	Size int  // without the five bytes of its header
}

// NewRecorder starts a recorder. The listener is the recorder's from now on.
func NewRecorder(t *testing.T, tcp net.Listener, cert tls.Certificate, cookies ...string) *Recorder {
	t.Helper()
	r := &Recorder{cookies: cookies, tcp: tcp, config: &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
	}}
	r.wg.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			rec := &Conn{}
			r.mu.Lock()
			r.conns = append(r.conns, rec)
			r.mu.Unlock()
			r.wg.Go(func() { r.serve(c, rec) })
		}
	})
	t.Cleanup(func() { r.Finish() })
	return r
}

// SendAway has the next requests answered with a redirection to the same page, and their connections closed: whoever follows
// comes back on another one, with the ticket that there is from now on.
func (r *Recorder) SendAway(requests int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = requests
	r.config = r.config.Clone()
	r.config.SessionTicketsDisabled = false
}

// errAway ends a connection whose visitor was sent away.
var errAway = errors.New("sent away")

// Finish waits for the end of every connection and returns what was recorded.
func (r *Recorder) Finish() []*Conn {
	_ = r.tcp.Close()
	r.wg.Wait()
	return r.conns
}

func (r *Recorder) serve(c net.Conn, rec *Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // whoever hangs must not hang the test
	t := newTee(c, rec)
	r.mu.Lock()
	config := r.config
	r.mu.Unlock()
	conn := tls.Server(t, config)
	if err := conn.Handshake(); err != nil {
		rec.End = fmt.Sprintf("no handshake: %v", err)
		return
	}
	if err := http2.NewFramer(conn, nil).WriteSettings(); err != nil {
		return
	}
	var all []byte
	greeted := false
	buf := make([]byte, 1<<15) // more than a record: each Read returns one whole record's content
	for {
		n, err := conn.Read(buf)
		if err != nil {
			rec.End = t.end
			return
		}
		rec.Plain = append(rec.Plain, bytes.Clone(buf[:n]))
		all = append(all, buf[:n]...)
		rest := all
		if !greeted {
			if len(rest) < len(http2.ClientPreface) {
				continue
			}
			rest, greeted = rest[len(http2.ClientPreface):], true
		}
		for len(rest) >= frameHeader && len(rest) >= frameHeader+frameSize(rest) {
			if http2.FrameType(rest[3]) == http2.FrameHeaders {
				if err := r.answer(conn, binary.BigEndian.Uint32(rest[5:])); err != nil {
					rec.End = err.Error()
					_ = conn.Close()
					return
				}
			}
			rest = rest[frameHeader+frameSize(rest):]
		}
		all = rest
	}
}

const (
	frameHeader  = 9
	recordedPage = "<!doctype html><title>recorded</title>recorded"
)

func frameSize(frame []byte) int { return int(frame[0])<<16 | int(frame[1])<<8 | int(frame[2]) }

// answer sends the page.
func (r *Recorder) answer(w io.Writer, stream uint32) error {
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	framer := http2.NewFramer(w, nil)
	r.mu.Lock()
	away := r.away > 0
	if away {
		r.away--
	}
	r.mu.Unlock()
	if away {
		err := errors.Join(enc.WriteField(hpack.HeaderField{Name: ":status", Value: "302"}),
			enc.WriteField(hpack.HeaderField{Name: "location", Value: "/"}),
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true}),
			framer.WriteGoAway(stream, http2.ErrCodeNo, nil))
		return errors.Join(err, errAway)
	}
	fields := []hpack.HeaderField{
		{Name: ":status", Value: "200"}, {Name: "content-type", Value: "text/html; charset=utf-8"},
		{Name: "cache-control", Value: "no-store"},
	}
	for _, c := range r.cookies {
		fields = append(fields, hpack.HeaderField{Name: "set-cookie", Value: c})
	}
	for _, f := range fields {
		if err := enc.WriteField(f); err != nil {
			return err
		}
	}
	err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true})
	return errors.Join(err, framer.WriteData(stream, true, []byte(recordedPage)))
}

// A tee is a connection whose records are noted.
type tee struct {
	net.Conn
	rec      *Conn
	up, down splitter
	end      string
	mu       sync.Mutex
}

func newTee(c net.Conn, rec *Conn) *tee { return &tee{Conn: c, rec: rec, up: splitter{up: true}} }

// Tee returns c with its records noted in what is returned beside it, for whoever serves it. Its End stays empty.
func Tee(c net.Conn) (net.Conn, *Conn) {
	rec := &Conn{}
	return newTee(c, rec), rec
}

func (t *tee) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.up.add(t.rec, b[:n])
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		t.end = "FIN"
	case errors.Is(err, syscall.ECONNRESET):
		t.end = "RST"
	default:
		t.end = err.Error()
	}
	return n, err
}

func (t *tee) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.down.add(t.rec, b)
	t.mu.Unlock()
	return t.Conn.Write(b)
}

// A splitter finds records in one direction's bytes.
type splitter struct {
	up   bool
	rest []byte
}

func (s *splitter) add(rec *Conn, b []byte) {
	s.rest = append(s.rest, b...)
	for len(s.rest) >= 5 {
		size := 5 + int(binary.BigEndian.Uint16(s.rest[3:]))
		if len(s.rest) < size {
			return
		}
		if s.up && rec.Hello == nil {
			rec.Hello = bytes.Clone(s.rest[:size])
		}
		rec.Records = append(rec.Records, Record{s.up, s.rest[0], size - 5})
		s.rest = s.rest[size:]
	}
}
