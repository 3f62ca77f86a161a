package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func (s *seat) connect(address string) string {
	conn, err := s.dial("tcp", address)
	if err != nil {
		return name(err)
	}
	_ = conn.Close()
	return "connected"
}

func (s *seat) scan() string {
	count := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			saw := s.connect(s.at(fidelityPort + 7 - 25 + i))
			mu.Lock()
			defer mu.Unlock()
			count[saw]++
		})
	}
	wg.Wait()
	return strings.TrimPrefix(fmt.Sprint(count), "map")
}

// echo sends that much, ends its half, and reads what comes back.
func (s *seat) echo(n int) string {
	conn, err := s.dial("tcp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	return bounce(conn, n, conn.(*net.TCPConn).CloseWrite)
}

// bounce sends n bytes, ends, and compares what comes back with what went.
func bounce(conn io.ReadWriter, n int, end func() error) string {
	want := make([]byte, n)
	_, _ = rand.Read(want)
	go func() {
		_, _ = conn.Write(want)
		_ = end()
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		return name(err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Sprintf("%d bytes, and not those", len(got))
	}
	return "all came back"
}

func (s *seat) goOn(port int) string {
	conn, id, err := s.known(port)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "bye" {
		return fmt.Sprintf("%q, %s", b, name(err))
	}
	_, _ = conn.Write(make([]byte, 1000))
	_ = conn.CloseWrite()
	return s.far.said(id)
}

// untilEnd sends something and reads until it ends.
func (s *seat) untilEnd(port int) string {
	conn, _, err := s.known(port)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	_, _ = conn.Write(make([]byte, 20))
	_, err = io.Copy(io.Discard, conn)
	return name(err)
}

func (s *seat) reset(port int) string {
	conn, id, err := s.known(port)
	if err != nil {
		return name(err)
	}
	_, _ = io.ReadFull(conn, make([]byte, 1)) // what was sent before may not come
	_ = conn.SetLinger(0)
	_ = conn.Close()
	return s.far.said(id)
}

func (s *seat) urgent(port int) string {
	conn, id, err := s.known(port)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return name(err)
	}
	_, _ = conn.Write([]byte("be"))
	time.Sleep(100 * time.Millisecond) // they read it before
	_ = raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("X"), unix.MSG_OOB, nil) })
	if err != nil {
		return name(err)
	}
	_, _ = conn.Write([]byte("hind"))
	_ = conn.CloseWrite()
	return s.far.said(id)
}

// known connects to a port where the far side tells afterwards what it saw.
func (s *seat) known(port int) (*net.TCPConn, string, error) {
	conn, err := s.dial("tcp", s.at(fidelityPort+port))
	if err != nil {
		return nil, "", err
	}
	id := make([]byte, idLength)
	_, _ = rand.Read(id)
	_, err = conn.Write(id)
	return conn.(*net.TCPConn), string(id), err
}

func (s *seat) fastOpen() (saw string) {
	err := s.host.do(func() error {
		d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
			return errors.Join(c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
			}), err)
		}}
		conn, err := d.Dial("tcp", s.at(fidelityPort+7))
		if err != nil {
			return err
		}
		defer conn.Close()
		saw = bounce(conn, 1000, conn.(*net.TCPConn).CloseWrite)
		return nil
	})
	if err != nil {
		return name(err)
	}
	return saw
}

func (s *seat) short() string {
	var failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 32 {
		wg.Go(func() {
			_ = s.host.do(func() error {
				for range 1000 / 32 {
					conn, err := net.DialTimeout("tcp", s.at(fidelityPort+7), 10*time.Second)
					if err != nil {
						failed.Add(1)
						continue
					}
					b := []byte("hello")
					_, _ = conn.Write(b)
					_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.ReadFull(conn, b); err != nil {
						failed.Add(1)
					}
					_ = conn.Close()
				}
				return nil
			})
		})
	}
	wg.Wait()
	s.w.t.Logf("%s, IPv%s: %.0f short connections a second, beside all else", s.host.name, s.version, 992/time.Since(began).Seconds())
	return fmt.Sprintf("%d failed", failed.Load())
}

// eyeballs has curl fetch from a name one of whose addresses nobody answers at.
func (s *seat) eyeballs() string {
	began := time.Now()
	code, out := run(s.w.t, s.host.command("curl", "--silent", "--show-error", "--max-time", "10", "http://eyeballs.test/hello"))
	if code != 0 || !strings.HasPrefix(out, "hello over") {
		return fmt.Sprintf("curl ended with %d: %s", code, out)
	}
	if time.Since(began) > 5*time.Second {
		return "the page, late"
	}
	return "the page"
}
