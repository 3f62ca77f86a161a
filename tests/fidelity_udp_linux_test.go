package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (s *seat) datagrams() string {
	conn, err := s.dial("udp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	for _, n := range []int{0, 1, 1472, 1473, 9000, 65507} {
		if saw := datagram(conn, n, 5); saw != "came back" {
			return fmt.Sprintf("%d bytes: %s", n, saw)
		}
	}
	return "all came back"
}

// datagram sends one, again for so many times as nothing comes, and waits for its return.
func datagram(conn net.Conn, n, tries int) string {
	want := make([]byte, n)
	_, _ = rand.Read(want)
	got := make([]byte, 1<<16)
	for range tries {
		if _, err := conn.Write(want); err != nil {
			return name(err)
		}
		for {
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			k, err := conn.Read(got)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return name(err)
			}
			if bytes.Equal(got[:k], want) {
				return "came back"
			}
		}
	}
	return "nothing"
}

func (s *seat) refusedUDP(address string) string {
	conn, err := s.dial("udp", address)
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	return datagram(conn, 10, 2)
}

// mapping asks two ports of the world's whom they see.
func (s *seat) mapping() string {
	c := s.host.listenUDP(s.w.t, ":0")
	saw := map[string]bool{}
	for _, port := range []int{19, 20} {
		to, err := net.ResolveUDPAddr("udp", s.at(fidelityPort+port))
		if err != nil {
			return name(err)
		}
		b := make([]byte, 100)
		n := 0
		for try := 0; n == 0 && try < 5; try++ {
			_, _ = c.WriteTo([]byte("who am I?"), to)
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, _, _ = c.ReadFrom(b)
		}
		saw[string(b[:n])] = true
	}
	return fmt.Sprintf("%d seen", len(saw))
}

func (s *seat) call() string {
	conn, err := s.dial("udp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	const packets = 50
	go func() {
		b := make([]byte, 160)
		for i := range packets {
			b[0] = byte(i)
			_, _ = conn.Write(b)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	came := map[byte]bool{}
	b := make([]byte, 1<<10)
	for len(came) < packets {
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Read(b); err != nil {
			break
		}
		came[b[0]] = true
	}
	if len(came) < packets*9/10 { // it may be lost, on a busy machine
		return fmt.Sprintf("%d of %d came back", len(came), packets)
	}
	return "carried"
}

func (s *seat) ping(args ...string) string {
	args = append([]string{"-" + s.version, "-c", "2", "-i", "0.2", "-W", "5"}, args...)
	code, out := run(s.w.t, s.host.command("ping", append(args, s.addr)...))
	if code != 0 {
		return out
	}
	return "answered"
}

// dig asks a resolver of the world's. On a busy machine an answer may be late, and then is none.
func (s *seat) dig() (saw string) {
	for range 3 {
		if saw = s.digOnce(); saw == "NOERROR 5, NOERROR 5, NOERROR 8, NOERROR 5, NXDOMAIN 0" {
			return "answered"
		}
	}
	return saw
}

func (s *seat) digOnce() string {
	var all []string
	for _, ask := range [][]string{{"site.test", "A"}, {"site.test", "AAAA"}, {"big.test", "TXT"}, {"+tcp", "site.test", "A"}, {"nowhere.test", "A"}} {
		args := append([]string{"@" + dnsAddr, "+noall", "+comments", "+answer", "+tries=3", "+time=5"}, ask...)
		_, out := run(s.w.t, s.host.command("dig", args...))
		status, answer := "", 0
		for line := range strings.Lines(out) {
			if _, after, ok := strings.Cut(line, "status: "); ok {
				status, _, _ = strings.Cut(after, ",")
			} else if !strings.HasPrefix(line, ";") {
				answer += len(strings.Fields(line))
			}
		}
		all = append(all, fmt.Sprintf("%s %d", status, answer))
	}
	return strings.Join(all, ", ")
}

// uncut sends a datagram that routers must not cut.
func (s *seat) uncut() string {
	conn, err := s.dial("udp", s.at(fidelityPort+7))
	if err != nil {
		return name(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return name(err)
	}
	level, option, do := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if s.version == "6" {
		level, option, do = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, do) })
	if err != nil {
		return name(err)
	}
	n := 1472
	if s.version == "6" {
		n = 1452
	}
	return datagram(conn, n, 5)
}
