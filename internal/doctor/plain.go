package doctor

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// plain asks for the first page without TLS, as a browser does.
func (p *probes) plain(ctx context.Context, place int, name int, local uint16) (s Plain, from uint16) {
	port := p.cfg.PlainPort
	s = Plain{Place: place, Port: port, Name: name}
	c, seen := p.connect(ctx, place, port, local, 0)
	if c == nil {
		s.Outcome = seen.Outcome
		return s, 0
	}
	p.seen.Connects = append(p.seen.Connects, seen)
	from = c.port()
	defer func() {
		c.linger(s.Outcome == OK)
		c.Close()
	}()
	stop := context.AfterFunc(ctx, func() { c.Conn.Close() })
	defer stop()
	c.SetDeadline(time.Now().Add(answerTime))
	host := p.authority(place, name, port, 80)
	resp, err := askPlain(c, host)
	if s.Outcome = outcome(err); err != nil {
		return s, from
	}
	s.Status = resp.StatusCode
	if to, err := url.Parse(resp.Header.Get("Location")); err == nil && to.Host != "" {
		asked, _, _ := strings.Cut(strings.ToLower(host), ":")
		home := to.Hostname()
		if strings.HasPrefix(host, "[") {
			asked, home = host[:strings.LastIndex(host, "]")+1], "["+home+"]"
		}
		s.Home = to.Scheme == "https" && strings.EqualFold(home, asked)
		s.Away = !strings.EqualFold(home, asked)
	}
	p.clock(place, resp.Header.Get("Date"), false)
	return s, from
}

// askPlain sends a browser's request by HTTP/1.1 and reads the answer's header.
func askPlain(c net.Conn, host string) (*http.Response, error) {
	if _, err := c.Write(chrome.PlainRequest(host)); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, 64<<10)), nil)
	if err != nil {
		return nil, err
	}
	return resp, nil // of the body nothing is read, and the connection's end is its own
}

// clock notes what a server says the time is.
func (p *probes) clock(place int, date string, gateway bool) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	p.seen.Clocks = append(p.seen.Clocks, Clock{Place: place, Skew: p.cfg.Now().Sub(t).Round(time.Second).Seconds(), Gateway: gateway})
}

// altSvc notes that a website says that it speaks QUIC, at its own address.
func (p *probes) altSvc(place int, says string) {
	for alternative := range strings.SplitSeq(says, ",") {
		protocol, rest, _ := strings.Cut(strings.TrimSpace(alternative), "=")
		if protocol != "h3" || !strings.HasPrefix(rest, `":`) {
			continue
		}
		number, _, _ := strings.Cut(rest[2:], `"`)
		if port, err := net.LookupPort("udp", number); err == nil && port > 0 {
			p.promise(place, uint16(port))
		}
	}
}
