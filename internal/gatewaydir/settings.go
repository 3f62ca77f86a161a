package gatewaydir

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/godwit-vpn/godwit/internal/dnsclient"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// Settings is gateway.toml. Unknown fields are refused.
type Settings struct {
	// Listen are the addresses to take links on, host:port; an empty host means all of the machine's.
	Listen []string `toml:"listen"`
	// Endpoints are where clients reach the gateway, host:port, as access keys say it; best first.
	Endpoints []string `toml:"endpoints"`
	// Ways are further ways in that access keys are to name, [transport+]host[:port][/name] as they have it: somebody else's
	// web server in front of the gateway, as "websocket+cdn.example/site.example".
	Ways []string `toml:"ways,omitempty"`
	// Transports are offered beside https, at the same addresses; absent means all of OwnTransports.
	Transports []string `toml:"transports,omitempty"`
	// Congestion is the congestion control for links; empty prefers BBR, "system" leaves it to the system.
	Congestion string `toml:"congestion,omitempty"`
	// MemoryMiB bounds what all sessions retain and reassemble together; 0 means 1024.
	MemoryMiB int64 `toml:"memory_mib,omitempty"`
	// DrainMinutes is how long a gateway that has been replaced by an upgrade may carry its open streams on; 0 means 60.
	DrainMinutes int `toml:"drain_minutes,omitempty"`

	// DNS makes the gateway the name server of a zone, for transport dns.
	DNS DNSSettings `toml:"dns,omitempty"`
	// Relays are this network's relays: access keys name them.
	Relays []RelaySettings `toml:"relays,omitempty"`
	// Forward makes this gateway another network's relay.
	Forward ForwardSettings `toml:"forward,omitempty"`

	Certificate CertificateSettings `toml:"certificate"`
	Egress      EgressSettings      `toml:"egress"`
	Website     WebsiteSettings     `toml:"website"`
}

// EgressSettings say how traffic leaves.
type EgressSettings struct {
	// Allow opens prefixes that are refused by default, such as the gateway's own network.
	Allow []string `toml:"allow,omitempty"`
	// Source4 and Source6 are the addresses to leave by; empty leaves it to the routes.
	Source4 string `toml:"source4,omitempty"`
	Source6 string `toml:"source6,omitempty"`
	// Upstream is a SOCKS5 proxy for all TCP, "socks5://[user:password@]host:port"; empty is none.
	Upstream string `toml:"upstream,omitempty"`
	// Resolver answers users' DNS questions: "192.0.2.53", "tcp://192.0.2.53", "tls://dns.example" or
	// "https://dns.example/dns-query"; empty asks the system's.
	Resolver string `toml:"resolver,omitempty"`
	// Packets says what carries users' packets, one of PacketsBySockets, PacketsByBoth and PacketsByKernel; empty is the first.
	Packets string `toml:"packets,omitempty"`
	// ClosedPorts are ports that nobody may reach; absent means 25.
	ClosedPorts []uint16 `toml:"closed_ports,omitempty"`
}

// What carries packets.
const (
	// PacketsBySockets is UDP and pings, and nothing else.
	PacketsBySockets = "sockets"
	// PacketsByBoth leaves these to sockets, and all else to the kernel, where it forwards for us.
	PacketsByBoth = "auto"
	// PacketsByKernel insists on the kernel, for all of them.
	PacketsByKernel = "kernel"
)

// DefaultSettings are those of a new gateway, but for its endpoints.
func DefaultSettings() Settings { return Settings{Listen: []string{":443"}} }

// ReadSettings reads a file. Its errors name the field, with the line.
func ReadSettings(path string) (Settings, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Settings{}, fmt.Errorf("reading the settings: %w", err)
	}
	s, err := ParseSettings(b)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ErrSettings is matched by every error about the content of settings.
var ErrSettings = errors.New("settings")

// ParseSettings parses and checks the content of gateway.toml.
func ParseSettings(b []byte) (Settings, error) {
	var s Settings
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		var unknown *toml.StrictMissingError
		var bad *toml.DecodeError
		switch {
		case errors.As(err, &unknown):
			return s, fmt.Errorf("%w: a field that Godwit does not know:\n%s", ErrSettings, unknown.String())
		case errors.As(err, &bad):
			row, _ := bad.Position()
			return s, fmt.Errorf("%w: line %d: %v\n%s", ErrSettings, row, err, bad.String())
		}
		return s, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	return s, s.Validate()
}

// Validate checks every field; its errors name the field.
func (s Settings) Validate() error {
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: field %s: %s", ErrSettings, field, fmt.Sprintf(format, args...)))
	}
	if len(s.Listen) == 0 {
		fail("listen", "is empty: give at least one address, such as \":443\"")
	}
	for _, a := range s.Listen {
		if _, port, err := net.SplitHostPort(a); err != nil || !isPort(port) {
			fail("listen", "%q is not host:port", a)
		}
	}
	if len(s.Endpoints) == 0 {
		fail("endpoints", "is empty: say where clients reach the gateway, such as \"gateway.example:443\"")
	}
	if _, err := s.accessEndpoints(); err != nil {
		errs = append(errs, err)
	}
	s.validateTransports(fail)
	for _, p := range s.Egress.Allow {
		if _, err := netip.ParsePrefix(p); err != nil {
			fail("egress.allow", "%q is not a prefix such as 192.0.2.0/24", p)
		}
	}
	for field, a := range map[string]string{"egress.source4": s.Egress.Source4, "egress.source6": s.Egress.Source6} {
		if a == "" {
			continue
		}
		if _, err := netip.ParseAddr(a); err != nil {
			fail(field, "%q is not an address", a)
		}
	}
	if r := s.Egress.Resolver; r != "" {
		if _, err := dnsclient.Parse(r); err != nil {
			fail("egress.resolver", "%v", err)
		}
	}
	switch p := s.Egress.Packets; {
	case p == PacketsByKernel && s.Egress.Upstream != "":
		fail("egress.packets", "%q goes past egress.upstream: leave one of them out", p)
	case p != "" && p != PacketsBySockets && p != PacketsByBoth && p != PacketsByKernel:
		fail("egress.packets", "%q is none: choose %q, %q or %q", p, PacketsBySockets, PacketsByBoth, PacketsByKernel)
	}
	s.validateRelays(fail)
	s.validateCertificate(fail)
	s.validateWebsite(fail)
	if s.MemoryMiB < 0 || s.MemoryMiB != 0 && s.MemoryMiB < 64 {
		fail("memory_mib", "%d is too little: 64 is the least", s.MemoryMiB)
	}
	if s.DrainMinutes < 0 || s.DrainMinutes > maxDrainMinutes {
		fail("drain_minutes", "%d is not from 1 to %d", s.DrainMinutes, maxDrainMinutes)
	}
	return errors.Join(errs...)
}

const (
	defaultDrain    = time.Hour
	maxDrainMinutes = 24 * 60
)

// Drain is how long a gateway that has been replaced may carry its open streams on.
func (s Settings) Drain() time.Duration {
	if s.DrainMinutes == 0 {
		return defaultDrain
	}
	return time.Duration(s.DrainMinutes) * time.Minute
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n <= 65535
}

const settingsHead = `# A Godwit gateway. 'godwit gateway run' reads this when it starts.
# listen: the addresses to take links on. endpoints: where clients reach them; access keys carry these.
# Also: transports, ways, congestion, memory_mib, drain_minutes, and under [egress]: allow, source4, source6, upstream,
# resolver, packets ("sockets", "auto" or "kernel"), closed_ports.
# [certificate] mode: "self" signs itself; "acme" asks a CA, and accepts its terms; "files" reads yours. The others are in
# docs/certificates.md. [[relays]] are written by 'godwit gateway relay add', and [forward] by 'godwit gateway init --relay':
# docs/relay.md.
# And what strangers see, under [website]: kind ("site", "empty", "directory" or "proxy"), directory, upstream,
# forwarded_for, redirect. A site of your own is best: docs/website.md.

`

// write writes the settings, whole or not at all; create refuses to replace.
func (s Settings) write(path string, create bool) error {
	b, err := toml.Marshal(s)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append([]byte(settingsHead), b...), 0o600); err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	if create {
		err = os.Link(tmp, path)
		os.Remove(tmp)
	} else {
		err = os.Rename(tmp, path)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("writing the settings: %w", err)
	}
	return nil
}

// guessEndpoint is the address this machine would be reached at, if it is a server with an address of its own.
func guessEndpoint() string {
	for _, probe := range [...]string{"192.0.2.1:9", "[2001:db8::1]:9"} { // reserved (RFC 5737, 3849); UDP sends nothing
		c, err := net.Dial("udp", probe)
		if err != nil {
			continue
		}
		defer c.Close()
		host, _, _ := net.SplitHostPort(c.LocalAddr().String())
		if i := strings.IndexByte(host, '%'); i >= 0 {
			continue
		}
		return net.JoinHostPort(host, "443")
	}
	return "127.0.0.1:443"
}

// listenFor are the addresses to listen on for clients that come to endpoints: their ports, on all of the machine's
// addresses. Where a router gives the gateway another port, the operator says so in the settings.
func listenFor(endpoints []string) []string {
	var all []string
	for _, e := range endpoints {
		_, port, err := net.SplitHostPort(e)
		if a := ":" + port; err == nil && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// PublicEndpoint reports whether an endpoint is one that others can reach: a name, or an address that is not private.
func PublicEndpoint(endpoint string) bool {
	t, err := flow.ParseTarget(endpoint)
	if err != nil {
		return false
	}
	a, ok := t.Addr()
	return !ok || a.IsGlobalUnicast() && !a.IsPrivate()
}
