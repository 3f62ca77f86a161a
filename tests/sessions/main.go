// Sessions fills a gateway with sessions and says what they cost it. It performs the whole of what a client does, each
// with a device of its own: TCP, TLS, door, enrolment.
//
//	go run ./tests/sessions -godwit bin/godwit -n 10000            # idle, attached sessions
//	go run ./tests/sessions -godwit bin/godwit -n 10000 -sleeping  # sessions without a link, each with data retained
//
// It starts the gateway itself, in a temporary directory, on the loopback.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
	"github.com/godwit-vpn/godwit/internal/wire"
)

var (
	godwit   = flag.String("godwit", "bin/godwit", "the binary whose gateway is measured")
	n        = flag.Int("n", 10000, "how many sessions")
	sleeping = flag.Bool("sleeping", false, "cut every link with data on its way")
	retained = flag.Int("retained", 64<<10, "how many bytes each sleeping session has retained")
	workers  = flag.Int("workers", 8, "how many dial at once")
	asJSON   = flag.Bool("json", false, "print the result as JSON")
)

// result is what was measured.
type result struct {
	Schema     string  `json:"schema"`
	Sessions   int     `json:"sessions"`
	Sleeping   bool    `json:"sleeping"`
	Seconds    float64 `json:"seconds"` // to make all of them
	RSSBefore  int64   `json:"rss_before_bytes"`
	RSSAfter   int64   `json:"rss_after_bytes"`
	PerSession int64   `json:"rss_per_session_bytes"`
	Failed     int64   `json:"failed"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("sessions: ")
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "godwit-sessions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	state := filepath.Join(dir, "state")
	key, addr, err := prepare(state)
	if err != nil {
		return err
	}
	gateway := exec.Command(*godwit, "gateway", "run", "--state-dir", state, "--listen", addr, "--allow", "127.0.0.0/8")
	gateway.Stderr = os.Stderr
	if err := gateway.Start(); err != nil {
		return err
	}
	defer func() {
		gateway.Process.Signal(os.Interrupt)
		gateway.Wait()
	}()
	if err := waitFor(addr); err != nil {
		return err
	}
	r := result{Schema: "godwit.sessions/1", Sessions: *n, Sleeping: *sleeping, RSSBefore: rss(gateway.Process.Pid)}
	source, err := newSource()
	if err != nil {
		return err
	}
	defer source.Close()

	began := time.Now()
	var done, failed atomic.Int64
	conns := make([]transport.Conn, *n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range *workers {
		wg.Go(func() {
			for i := range next {
				c, err := session(key, source.Addr().String())
				if err != nil {
					if failed.Add(1) == 1 {
						log.Print(err)
					}
					continue
				}
				if *sleeping {
					c.Close()
				} else {
					conns[i] = c
				}
				if d := done.Add(1); d%500 == 0 && !*asJSON {
					fmt.Printf("\r%d sessions, gateway %d MiB ", d, rss(gateway.Process.Pid)>>20)
				}
			}
		})
	}
	for i := range *n {
		next <- i
	}
	close(next)
	wg.Wait()
	r.Seconds = time.Since(began).Seconds()
	time.Sleep(10 * time.Second) // what is left of handshakes is collected
	r.RSSAfter, r.Failed = rss(gateway.Process.Pid), failed.Load()
	r.PerSession = (r.RSSAfter - r.RSSBefore) / int64(*n)
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	kind := "idle"
	if *sleeping {
		kind = fmt.Sprintf("sleeping (%d KiB retained each)", *retained>>10)
	}
	fmt.Printf("\r%d %s sessions in %.0f s: gateway %d MiB before, %d MiB after, %.1f KiB each, %d failed\n",
		*n, kind, r.Seconds, r.RSSBefore>>20, r.RSSAfter>>20, float64(r.PerSession)/1024, r.Failed)
	return nil
}

// prepare makes a gateway whose one access key allows all the devices.
func prepare(state string) (key accesskey.Key, addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return key, "", err
	}
	addr = l.Addr().String()
	l.Close()
	d, _, err := gatewaydir.Init(context.Background(), state, []string{addr}, slog.New(slog.DiscardHandler))
	if err != nil {
		return key, "", err
	}
	defer d.Close()
	k, err := d.Control.AddKey(context.Background(), control.AccessKey{Name: "load", MaxDevices: *n})
	if err != nil {
		return key, "", err
	}
	key, err = d.AccessKey(k)
	return key, addr, err
}

func waitFor(addr string) error {
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the gateway does not answer")
}

// newSource is a site that sends the bytes to be retained and then waits.
func newSource() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.Write(make([]byte, *retained))
				io.Copy(io.Discard, c)
			}()
		}
	}()
	return l, nil
}

// session makes one session and, if it is to sleep, lets data begin to come.
func session(key accesskey.Key, source string) (transport.Conn, error) {
	dev, err := device.New(rand.Reader)
	if err != nil {
		return nil, err
	}
	k := link.Knock{Transport: https.Name, KeyID: key.ID, Secret: key.Secret.Reveal(), Device: dev,
		Flags: wire.HelloNew | wire.HelloEnrol}
	rand.Read(k.Session[:])
	ep := key.Endpoints[0]
	conn, err := (&https.Dialer{}).Dial(context.Background(), transport.Endpoint{Addr: ep.Addr(), Name: ep.Name,
		Pins: key.Pins(), Opener: k})
	if err != nil {
		return nil, err
	}
	if *sleeping {
		t, err := flow.ParseTarget(source)
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write(wire.AppendOpen(nil, wire.Open{Window: 1 << 20, Target: t})); err != nil {
			return nil, err
		}
	}
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	want := wire.TypeWelcome
	for {
		t, body, err := wire.ReadFrame(conn, wire.MaxFrame)
		if err != nil {
			conn.Close()
			return nil, err
		}
		if t == wire.TypeRefused {
			_, err := link.ParseAnswer(t, body)
			conn.Close()
			return nil, err
		}
		if t == want && (!*sleeping || t == wire.TypeData) {
			return conn, conn.SetReadDeadline(time.Time{})
		}
		if t == wire.TypeWelcome {
			want = wire.TypeData
		}
	}
}

// rss is a process's resident memory, in bytes (Linux).
func rss(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
