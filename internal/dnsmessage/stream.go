package dnsmessage

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Limits bound what one stream may take.
type Limits struct {
	AtOnce int           // questions under way; the next is not read before one of them is answered
	Idle   time.Duration // a stream with nothing under way ends after this
	Write  time.Duration // an answer that is not taken for so long ends the stream
}

// ServeStream answers the questions that come on a stream, each with its length before it (RFC 1035, section 4.2.2), many
// at once and in any order (RFC 7766), until the other end or ctx is done, or it is idle. It closes conn, and returns
// when every answer has. An answer of nil is none, and ends the stream.
func ServeStream(ctx context.Context, conn net.Conn, l Limits, answer func(ctx context.Context, query []byte) []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer conn.Close()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	places := make(chan struct{}, l.AtOnce)
	var mu sync.Mutex // held to write, and for busy
	busy := 0
	var head [2]byte
	for {
		// While something is under way the stream is not idle; the last answer sets the clock again.
		mu.Lock()
		if busy == 0 {
			conn.SetReadDeadline(time.Now().Add(l.Idle))
		}
		mu.Unlock()
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
			running.Wait() // who has said all waits for the answers
			return err
		}
		n := int(binary.BigEndian.Uint16(head[:]))
		if n > MaxQuery {
			return errQuestion
		}
		query := make([]byte, n)
		if _, err := io.ReadFull(conn, query); err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		if busy++; busy == 1 {
			conn.SetReadDeadline(time.Time{})
		}
		mu.Unlock()
		running.Go(func() {
			defer func() { <-places }()
			reply := answer(ctx, query)
			mu.Lock()
			defer mu.Unlock()
			if busy--; busy == 0 {
				conn.SetReadDeadline(time.Now().Add(l.Idle))
			}
			if reply == nil {
				cancel()
				return
			}
			conn.SetWriteDeadline(time.Now().Add(l.Write))
			if _, err := conn.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply))),
				reply...)); err != nil {
				cancel() // half a message spoils what comes behind it
			}
		})
	}
}
