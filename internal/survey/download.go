package survey

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/session"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// Download is a fetch through the gateway.
type Download struct {
	URL    string       `json:"url"`
	Status int          `json:"status,omitempty"`
	First  milliseconds `json:"first_byte_ms"`
	Bytes  int64        `json:"bytes"`
	// Seconds and Rate are from the first byte on.
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"bits_per_second"`
	Error   string  `json:"error,omitempty"`
}

const (
	downMost    = 256 << 20
	downTime    = 10 * time.Second // of its body
	downTimeout = 30 * time.Second // until that begins
	downMemory  = 64 << 20
	// downLeast is how much tells a rate.
	downLeast = 256 << 10
)

// download fetches the URL in a session of its own.
func (s *surveyor) download(ctx context.Context, ep accesskey.Endpoint, addr string, e *Endpoint) {
	d := &Download{URL: s.URL.Redacted()}
	e.Download = d
	s.doing("fetching through the gateway")
	err := s.fetch(ctx, ep, addr, d)
	c := Check{"down", Good, "", ""}
	switch {
	case d.Bytes >= downLeast && d.Seconds > 0:
		d.Rate = float64(d.Bytes) * 8 / d.Seconds
		c.Detail = fmt.Sprintf("%s (%s in %.1f s; the first byte after %s)", amount(d.Rate, "bit/s"),
			amount(float64(d.Bytes), "B"), d.Seconds, took(d.First.duration()))
	case d.Status != 0:
		c.Detail = fmt.Sprintf("%s after %s: too little to tell a rate", amount(float64(d.Bytes), "B"),
			took(d.First.duration()))
	}
	const next = "does the address work without the tunnel? The gateway does not reach its own network, nor what its " +
		"settings forbid"
	switch {
	case err != nil:
		d.Error = why(err)
		c = Check{"down", Failed, why(err), next}
	case d.Status >= 400:
		c = Check{"down", Failed, fmt.Sprintf("%d %s", d.Status, http.StatusText(d.Status)), next}
	}
	s.check(ctx, e, c)
}

func (s *surveyor) fetch(ctx context.Context, ep accesskey.Endpoint, addr string, d *Download) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cfg := session.Config{Role: session.Client, Pool: session.NewPool(downMemory)}
	rand.Read(cfg.ID[:])
	tunnel := session.New(cfg)
	defer tunnel.Close(flow.CodeLocalShutdown)
	s.space(ctx)
	began := time.Now()
	conn, err := s.dialer.Dial(ctx, transport.Endpoint{Addr: addr, Name: ep.Name, Pins: s.Key.Pins(), Opener: link.Knock{
		Transport: s.dialer.Transport(), KeyID: s.Key.ID, Secret: s.Key.Secret.Reveal(),
		Device: s.Device.Key, Cert: s.Device.Cert, Session: cfg.ID, Flags: wire.HelloNew}})
	if err != nil {
		return err
	}
	_, err = tunnel.Attach(conn, session.LinkOptions{
		Transport: s.dialer.Transport(), RTT: time.Since(began) / 2, // TCP's and TLS's handshakes
		Handshake: func(t wire.Type, body []byte) (uint64, error) {
			w, err := link.ParseAnswer(t, body)
			if err != nil {
				cancel(err)
			}
			return w.Next, err
		},
	})
	if err != nil {
		return err
	}
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		t, err := flow.ParseTarget(addr)
		if err != nil {
			return nil, err
		}
		return tunnel.Open(ctx, t, false)
	}
	tr := &http.Transport{DialContext: dial, DisableCompression: true}
	defer tr.CloseIdleConnections()
	slow := time.AfterFunc(downTimeout, func() { cancel(context.DeadlineExceeded) })
	defer slow.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL.String(), nil)
	if err != nil {
		return err
	}
	began = time.Now()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		var fe *flow.Error
		if errors.As(err, &fe) {
			return transport.Reason(fe.Code.String())
		}
		return err
	}
	defer resp.Body.Close()
	d.Status, d.First = resp.StatusCode, ms(time.Since(began))
	began = time.Now()
	slow.Reset(2 * downTime)
	b := make([]byte, 64<<10)
	for d.Bytes < downMost && time.Since(began) < downTime {
		n, err := resp.Body.Read(b)
		d.Bytes, d.Seconds = d.Bytes+int64(n), time.Since(began).Seconds()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
	}
	return nil
}
