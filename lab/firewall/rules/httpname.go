package rules

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// HTTPName looks for names in the Host of plain HTTP, and for words in what is asked for, at every port. Only the first
// request of a connection counts.
//
// China: resets both ways by the injectors of TLSName, for 75 % of the hits; for 90 s by 3-tuple, 50 to 75 % of the retries
// meet them too; a header with a name of 64 bytes or more before Host hides it (Rambert et al., 2021; Wu et al., IEEE S&P
// 2025). Henan: stateless, one packet to the client alone. Iran: in path, only connections whose SYN was seen, a page with
// status 403 and the end, on every port (Tai et al., USENIX Security 2025).
type HTTPName struct {
	Names  Names `toml:"names"`
	Except Names `toml:"except"`
	// Words are looked for in the target as sent and as decoded, whatever their case. One in another encoding than UTF-8 is
	// given as it is sent: "%bd%fb".
	Words []string `toml:"words"`
	To    Nets     `toml:"to"`
	Ports []int    `toml:"ports"` // empty is every port
	// LongHeader lets requests be that have a header with a name so long, or longer, before Host; zero is none.
	LongHeader int `toml:"long-header"`
	// Page answers with a page that says so, and ends the connection to both; the request does not arrive.
	Page bool `toml:"page"`
	// Stateless, NoOptions, Outbound and Opened are as in TLSName.
	Stateless bool    `toml:"stateless"`
	NoOptions bool    `toml:"no-options"`
	Outbound  bool    `toml:"outbound"`
	Opened    bool    `toml:"opened"`
	Chance    float64 `toml:"chance"`
	Then      Then    `toml:"then"`
}

func (r *HTTPName) check(place firewall.Place) error {
	switch {
	case len(r.Names) == 0 && len(r.Words) == 0:
		return wrong("names", "is missing, and words too: they say what is looked for")
	case r.Page && (!r.Then.Drop || len(r.Then.Reset) > 0):
		return wrong("page", "is what comes instead of the request: then.drop has to be set, and then.reset not")
	case r.LongHeader < 0:
		return wrong("long-header", "cannot be negative")
	}
	return errors.Join(chance("chance", r.Chance), ports("ports", r.Ports), r.Then.check(place))
}

// Watch looks at what the client says first.
func (r *HTTPName) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || r.Outbound && !r.Stateless && !f.FromInside || r.Opened && !f.Opened ||
		!r.To.Covers(f.Server.Addr()) || !portIn(r.Ports, f.Server.Port()) || !f.Chance(or(r.Chance, 1)) {
		return nil
	}
	if r.Stateless {
		return firewall.WatchFunc(r.alone)
	}
	return firewall.WatchFunc(r.packet)
}

func (r *HTTPName) packet(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	text := do.Text()
	if len(text) == 0 || !p.FromClient || r.NoOptions && len(p.Options) > 0 {
		return
	}
	request, err := look.HTTP(text)
	if r.find(f, do, request) || !errors.Is(err, look.ErrMore) {
		do.Done()
	}
}

// alone looks at a packet as if it were the first.
func (r *HTTPName) alone(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
	if len(p.Payload) == 0 || r.NoOptions && len(p.Options) > 0 || r.Outbound && !p.Outbound {
		return
	}
	request, _ := look.HTTP(p.Payload)
	r.find(f, do, request)
}

// find reports whether it is forbidden, and does what is due then. The request may be only the beginning of one.
func (r *HTTPName) find(f *firewall.Flow, do *firewall.Action, request look.Request) bool {
	host, why := request.Host, ""
	if host == "" && strings.HasPrefix(request.Target, "http://") { // as for a proxy
		host, _, _ = strings.Cut(request.Target[len("http://"):], "/")
	}
	host, _, _ = strings.Cut(host, ":")
	hidden := r.LongHeader > 0 && request.Longest >= r.LongHeader
	if pattern := r.Names.Match(host); pattern != "" && r.Except.Match(host) == "" && !hidden {
		why = "host matches " + pattern
	} else if word := r.word(request.Target); word != "" {
		why = "target has " + word
	}
	if why == "" {
		return false
	}
	r.Then.do(f, do, "%s", why)
	if r.Page {
		page(do)
	}
	return true
}

func (r *HTTPName) word(target string) string {
	if len(r.Words) == 0 || target == "" {
		return ""
	}
	target = strings.ToLower(target)
	decoded, err := url.PathUnescape(target)
	if err != nil {
		decoded = target
	}
	decoded = strings.ToLower(decoded)
	for _, w := range r.Words {
		if w = strings.ToLower(w); strings.Contains(target, w) || strings.Contains(decoded, w) {
			return w
		}
	}
	return ""
}

const forbidden = "<html><head><title>403 Forbidden</title></head><body>Access to this site is not permitted.</body></html>\n"

// page answers the request in hand, which was dropped, in the server's name, and has the server forget its client.
func page(do *firewall.Action) {
	answer := do.Next(false, firewall.PSH|firewall.ACK|firewall.FIN)
	answer.Window = 64240
	answer.Payload = fmt.Appendf(nil, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		len(forbidden), forbidden)
	do.Send(answer)
	do.Send(do.Next(true, firewall.RST|firewall.ACK))
}
