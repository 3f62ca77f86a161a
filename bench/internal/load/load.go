// Package load is both ends of every measurement: the services that run on the target host, and the tests that a
// client runs against them, straight or through a peer's SOCKS5 port. All peers are measured by the same code.
//
// The target's ports:
//
//	80   bulk   the client's first byte chooses: 'd' sends zeros for as long as it is read, 'u' counts what comes
//	853  echo   sends back what it gets
//	443  https  TLS 1.3 and HTTP/1.1; /bytes/N answers with N bytes
//	3478 udp    numbered datagrams (udp.go), sent back
//	53   dns    names of the page's hosts (site.go), which are at addresses of their own
//
// A Spec says what a test does. To measure something new, such as 10,000 idle sessions, add a Kind here and a function
// to the table in run_linux.go; a test that must start many clients instead of using one belongs beside package suite, which
// owns the processes.
package load

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The ports of the target's services. They are ones on which the client speaks first, as browsers' and mail programs' do:
// there a tunnel may let it speak before the far end has answered.
const (
	PortBulk  = 80
	PortEcho  = 853
	PortHTTPS = 443
	PortUDP   = 3478 // calls'
	PortDNS   = 53
)

// Kind names a test.
type Kind string

// The tests.
const (
	Down      Kind = "down"      // download on Streams connections: mbps
	Up        Kind = "up"        // upload, counted at the target: mbps
	PingPong  Kind = "pingpong"  // one byte to and fro on one connection: p50_us, p99_us
	Keystroke Kind = "keystroke" // one byte each Interval, whether or not the last came back: p50_ms, p99_ms
	ConnRate  Kind = "connrate"  // connect, one byte to and fro, close, on Workers at once: per_s
	ConnTime  Kind = "conntime"  // the same one after another: p50_ms, p99_ms
	Fetch     Kind = "fetch"     // HTTPS of Bytes on a new connection each: first_s, p50_s
	UDP       Kind = "udp"       // datagrams of Bytes at Rate, to and fro: up_lost, up_jitter_ms, p50_ms, and so on
	Page      Kind = "page"      // a web page in a browser, each time for the first time, Count times: p50_s
	Ready     Kind = "ready"     // try until one byte came back: ready_unix_ns
)

// Spec is one test. Zero fields do not apply or take the default that Bind shows.
type Spec struct {
	Kind    Kind
	Streams int
	// Seconds is how long is measured, after Warmup. A Warmup of zero measures from the first connection attempt, so
	// that handshakes and slow start count.
	Seconds float64
	Warmup  float64
	// Count ends ConnTime and Fetch after so many, if Seconds has not before, and Page.
	Count    int
	Workers  int
	Interval time.Duration
	Bytes    int
	// Bulk is how many downloads run beside PingPong, Keystroke and UDP, from Warmup seconds before.
	Bulk int
	// Rate is what UDP sends, in Mbit/s of payload. Path is the round trip without a peer, which its delays are above.
	Rate float64
	Path time.Duration
}

// Bind makes command line flags of the fields.
func (s *Spec) Bind(fs *flag.FlagSet) {
	fs.StringVar((*string)(&s.Kind), "test", string(s.Kind), "down, up, pingpong, keystroke, connrate, conntime, fetch, udp, page or ready")
	fs.IntVar(&s.Streams, "streams", 1, "down, up: connections")
	fs.Float64Var(&s.Seconds, "seconds", 3, "how long to measure")
	fs.Float64Var(&s.Warmup, "warmup", 0, "seconds to run before measuring")
	fs.IntVar(&s.Count, "count", 0, "conntime, fetch, page: stop after so many")
	fs.IntVar(&s.Workers, "workers", 64, "connrate: at once")
	fs.DurationVar(&s.Interval, "interval", 50*time.Millisecond, "keystroke: between two bytes")
	fs.IntVar(&s.Bytes, "bytes", 1_000_000, "fetch: size; udp: of a datagram")
	fs.IntVar(&s.Bulk, "bulk", 0, "pingpong, keystroke, udp: downloads beside it")
	fs.Float64Var(&s.Rate, "rate", 1, "udp: Mbit/s")
	fs.DurationVar(&s.Path, "path", 0, "udp: round trip that delays are above of")
}

// Args are the flags that Bind would read back to the same Spec.
func (s Spec) Args() []string {
	a := []string{"--test", string(s.Kind), "--seconds", fmt.Sprint(s.Seconds), "--warmup", fmt.Sprint(s.Warmup)}
	for _, f := range []struct {
		name string
		v    int
	}{{"streams", s.Streams}, {"count", s.Count}, {"workers", s.Workers}, {"bytes", s.Bytes}, {"bulk", s.Bulk}} {
		if f.v != 0 {
			a = append(a, "--"+f.name, strconv.Itoa(f.v))
		}
	}
	if s.Interval != 0 {
		a = append(a, "--interval", s.Interval.String())
	}
	if s.Kind == UDP {
		a = append(a, "--rate", fmt.Sprint(s.Rate), "--path", s.Path.String())
	}
	return a
}

// Config says where a test finds everything.
type Config struct {
	Proxy  string // host:port of a SOCKS5 server; empty connects straight
	Target string // the target's address
	// Control is the path of the target's unix socket, where Up asks what arrived.
	Control string
	// Processes are leaders of process groups whose CPU time is taken over the measured time, by role.
	Processes Processes
}

// Result is what a test found.
type Result struct {
	Metrics map[string]float64 `json:"metrics"`
	// Timeline is Mbit/s in each TimelineStep from the start of measuring.
	Timeline []float64 `json:"timeline_mbps,omitempty"`
}

// TimelineStep is the resolution of Result.Timeline.
const TimelineStep = 200 * time.Millisecond

// Processes maps a role (client, gateway) to a process group.
type Processes map[string]int

// String and Set make Processes a flag: role=pid, repeated.
func (p Processes) String() string {
	var s []string
	for role, pid := range p {
		s = append(s, fmt.Sprintf("%s=%d", role, pid))
	}
	slices.Sort(s)
	return strings.Join(s, ",")
}

// Set adds role=pid.
func (p Processes) Set(v string) error {
	role, pid, ok := strings.Cut(v, "=")
	n, err := strconv.Atoi(pid)
	if !ok || err != nil || n <= 0 || role == "" {
		return fmt.Errorf("%q is not role=pid", v)
	}
	p[role] = n
	return nil
}

// quantile is the smallest value that at least the fraction q of all do not exceed. It sorts v.
func quantile(v []time.Duration, q float64) time.Duration {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[max(0, min(len(v)-1, int(math.Ceil(q*float64(len(v))))-1))]
}
