package websocket

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// h2 is the client's connection of HTTP/2: the page on stream 1, then the WebSocket on stream 3 (RFC 8441).
type h2 struct {
	net.Conn
	f        *http2.Framer // its reader's
	connects bool          // the server's SETTINGS allow extended CONNECT

	writing sync.Mutex // one batch of frames at a time
	batch   []byte

	mu     sync.Mutex
	change sync.Cond // of anything below
	// How much may be sent: on a new stream, on the tunnel, and on the connection.
	initial, stream, whole int64
	// received is what came on the tunnel and was not yet read; taken was read, and not yet allowed again;
	// spare is the page's.
	received      []byte
	taken, spare  int
	status        int
	err           error // why nothing more comes or goes
	readBy, write deadline
}

const (
	pageStream   = 1
	tunnelStream = 3
	maxData      = 16 << 10 // what every server takes in one frame
	// settingConnect is SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441, section 3).
	settingConnect http2.SettingID = 8
)

func newH2(c net.Conn) *h2 {
	h := &h2{Conn: c, initial: 65535, whole: 65535}
	h.change.L = &h.mu
	h.f = http2.NewFramer(nil, c)
	h.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.f.MaxHeaderListSize = maxPageHeader
	h.f.SetMaxReadFrameSize(1 << 20)
	return h
}

// answer writes a frame.
func (h *h2) answer(write func(*http2.Framer) error) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	return write(http2.NewFramer(h.Conn, nil))
}

// page asks for the page and reads it.
func (h *h2) page(authority string) (http.Header, error) {
	for _, record := range chrome.Opening(authority, "") {
		if _, err := h.Conn.Write(record); err != nil {
			return nil, err
		}
	}
	var header http.Header
	for settled := false; ; {
		frame, err := h.f.ReadFrame()
		if err != nil {
			return nil, err
		}
		ended := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			settled = true
		case *http2.MetaHeadersFrame:
			if f.StreamID != pageStream {
				return nil, errors.New("an answer that was not asked for")
			}
			if status, _ := strconv.Atoi(f.PseudoValue("status")); status >= 200 { // no early hint, no trailers
				header = make(http.Header)
				for _, field := range f.RegularFields() {
					header.Add(field.Name, field.Value)
				}
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			h.mu.Lock()
			h.spare += int(f.Length)
			h.mu.Unlock()
			ended = f.StreamEnded() || h.spare > maxPage
		case *http2.RSTStreamFrame:
			return nil, errors.New("the request for the page was reset")
		}
		if err := h.common(frame); err != nil {
			return nil, err
		}
		if ended && header != nil && settled {
			return header, nil
		}
	}
}

// common does what frames want that are not the tunnel's alone.
func (h *h2) common(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		h.settings(f)
		return h.answer(func(w *http2.Framer) error { return w.WriteSettingsAck() })
	case *http2.PingFrame:
		if !f.IsAck() {
			return h.answer(func(w *http2.Framer) error { return w.WritePing(true, f.Data) })
		}
	case *http2.WindowUpdateFrame:
		return h.widen(f.StreamID, int64(f.Increment))
	case *http2.GoAwayFrame:
		if f.LastStreamID < tunnelStream {
			return errors.New("the front says goodbye")
		}
	}
	return nil
}

func (h *h2) settings(f *http2.SettingsFrame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			h.stream += int64(s.Val) - h.initial
			h.initial = int64(s.Val)
		case settingConnect:
			h.connects = h.connects || s.Val == 1
		}
		return nil
	})
	h.change.Broadcast()
}

func (h *h2) widen(stream uint32, by int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch stream {
	case 0:
		h.whole += by
	case tunnelStream:
		h.stream += by
	}
	h.change.Broadcast()
	if max(h.whole, h.stream) > 1<<31-1 {
		return errors.New("a window that is too wide")
	}
	return nil
}

// open opens the WebSocket. From then on the h2 is its stream, a net.Conn.
func (h *h2) open(ctx context.Context, authority, cookie string) (net.Conn, error) {
	h.mu.Lock()
	h.stream = h.initial
	h.mu.Unlock()
	if _, err := h.Conn.Write(chrome.Connect(authority, cookie)); err != nil {
		return nil, err
	}
	go h.pump() // until the connection is closed
	defer context.AfterFunc(ctx, func() { h.fail(ctx.Err()) })()
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.status == 0 && h.err == nil {
		h.change.Wait()
	}
	switch {
	case h.status == 0:
		return nil, h.err
	case h.status != http.StatusOK:
		return nil, transport.ErrDoor
	}
	return h, nil
}

// pump takes what comes.
func (h *h2) pump() {
	for {
		frame, err := h.f.ReadFrame()
		if err == nil {
			err = h.take(frame)
		}
		if err != nil {
			h.fail(err)
			return
		}
	}
}

// fail ends it all.
func (h *h2) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
	}
	h.change.Broadcast()
}

func (h *h2) take(frame http2.Frame) error {
	if err := h.common(frame); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		if f.StreamID == tunnelStream && h.status == 0 {
			if status, _ := strconv.Atoi(f.PseudoValue("status")); status >= 200 {
				h.status = status
			}
		}
		if f.StreamID == tunnelStream && f.StreamEnded() {
			return io.EOF
		}
	case *http2.DataFrame:
		if f.StreamID != tunnelStream {
			h.spare += int(f.Length) // the rest of a long page
			break
		}
		window, _ := chrome.Window()
		if uint32(len(h.received)+h.taken)+f.Length > window {
			return errors.New("more than was allowed")
		}
		h.received = append(h.received, f.Data()...)
		h.taken += int(f.Length) - len(f.Data()) // the padding
		if f.StreamEnded() {
			return io.EOF
		}
	case *http2.RSTStreamFrame:
		if f.StreamID == tunnelStream {
			return errors.New("the WebSocket was reset")
		}
	}
	h.change.Broadcast()
	return nil
}

// Read implements net.Conn.
func (h *h2) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.received) == 0 {
		if err := h.waitLocked(&h.readBy); err != nil {
			return 0, err
		}
	}
	n := copy(b, h.received)
	if h.received = h.received[n:]; len(h.received) == 0 {
		h.received = nil
	}
	h.taken += n
	if window, _ := chrome.Window(); h.taken > int(window)/2 {
		stream, whole := h.taken, h.taken+h.spare
		h.taken, h.spare = 0, 0
		h.mu.Unlock()
		err := h.answer(func(w *http2.Framer) error {
			return errors.Join(w.WriteWindowUpdate(0, uint32(whole)), w.WriteWindowUpdate(tunnelStream, uint32(stream)))
		})
		h.mu.Lock()
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Write implements net.Conn. It waits for the front's window.
func (h *h2) Write(b []byte) (done int, err error) {
	for len(b) > 0 {
		n, err := h.allowed(len(b))
		if err != nil {
			return done, err
		}
		if err := h.send(b[:n]); err != nil {
			return done, err
		}
		done, b = done+n, b[n:]
	}
	return done, nil
}

// allowed waits until something may be sent, and says how much of n.
func (h *h2) allowed(n int) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for min(h.stream, h.whole) <= 0 || h.err != nil {
		if err := h.waitLocked(&h.write); err != nil {
			return 0, err
		}
	}
	n = int(min(int64(n), h.stream, h.whole))
	h.stream -= int64(n)
	h.whole -= int64(n)
	return n, nil
}

// send writes DATA frames, all in one write.
func (h *h2) send(b []byte) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.batch = h.batch[:0]
	for len(b) > 0 {
		n := min(len(b), maxData)
		h.batch = append(h.batch, byte(n>>16), byte(n>>8), byte(n), byte(http2.FrameData), 0)
		h.batch = append(binary.BigEndian.AppendUint32(h.batch, tunnelStream), b[:n]...)
		b = b[n:]
	}
	_, err := h.Conn.Write(h.batch)
	return err
}

// waitLocked waits for a change, or says why there will be none.
func (h *h2) waitLocked(d *deadline) error {
	switch {
	case h.err != nil:
		return h.err
	case d.passed():
		return os.ErrDeadlineExceeded
	}
	h.change.Wait()
	return nil
}

// deadline wakes those who wait.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (h *h2) setLocked(d *deadline, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.change.Broadcast()
		})
	}
	h.change.Broadcast()
}

// SetDeadline implements net.Conn.
func (h *h2) SetDeadline(t time.Time) error {
	h.SetReadDeadline(t)
	return h.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (h *h2) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setLocked(&h.readBy, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (h *h2) SetWriteDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setLocked(&h.write, t)
	return nil
}

// Close implements net.Conn.
func (h *h2) Close() error {
	h.fail(net.ErrClosed)
	h.SetDeadline(time.Time{})
	return h.Conn.Close()
}
