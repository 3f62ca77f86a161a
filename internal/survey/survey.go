// Package survey looks at the gateways of an access key from where it runs: is each reached, what does a stranger meet
// there, does the door open, how fast is it. It keeps nothing, and shows what is of the key to nobody but the holder of
// the gateway's own TLS key.
//
//	name ─ TCP ─┬─ TLS ─ pin ─ certificate ─ website      one connection, as a stranger
//	            ├─ port 80                                another
//	            └─ door ─ device ─ round trip ─ up        another, as the key's holder; only if the pin matched
//	                         └─ down                      another, if a URL is given
//
// A step that fails ends those behind it. Dials keep the distance that clients keep.
package survey

import (
	"context"
	"crypto/x509"
	"net/url"
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// Config says what is looked at, and how. Zero values mean what each field says.
type Config struct {
	// Key is the access key. Required.
	Key accesskey.Key
	// Device is shown behind the door; nil shows none, and then all that is learnt there is whether the key is good.
	Device *Device
	// Enrol has a device that lives no longer than Run enrolled where there is no Device. It takes one of the key's
	// places, until the operator revokes it.
	Enrol bool
	// Quick leaves out how fast the gateway is, and begins no session.
	Quick bool
	// URL, if not nil, is fetched through the gateway. It needs a Device or Enrol.
	URL *url.URL
	// Roots are the CAs that strangers trust; nil means the system's.
	Roots *x509.CertPool
	// PlainPort is where the website's redirect to https is looked for; zero means port 80 of endpoints on port 443, and
	// nowhere else.
	PlainPort uint16

	// Begin, Doing and Done, unless nil, are told as it happens: another endpoint, what is under way, what came of it.
	Begin func(*Endpoint)
	Doing func(what string)
	Done  func(Check)
}

// Device is one that is enrolled under the access key.
type Device struct {
	Key  *device.Key
	Cert []byte
	// InUse says that a client is running with it. Another session could cost that one its own, so none is begun.
	InUse bool
}

// Outcome is what a check came to.
type Outcome string

// The outcomes.
const (
	Good    Outcome = "ok"
	Warning Outcome = "warning" // it works, and should be better
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // it cannot be told
)

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"`
	Next    string  `json:"next,omitempty"` // what to do about it
}

// Verdict is what all checks come to.
type Verdict string

// The verdicts.
const (
	Works   Verdict = "works"   // nothing failed
	Partly  Verdict = "partly"  // there is a way in, but something failed
	Refused Verdict = "refused" // a gateway was reached, and does not take the key or the device
	Blocked Verdict = "blocked" // no gateway's door opened
)

// Report is what was found.
type Report struct {
	Verdict   Verdict     `json:"verdict"`
	Failures  int         `json:"failures"`
	Warnings  int         `json:"warnings"`
	Endpoints []*Endpoint `json:"endpoints"`
	// Enrolled is the device that Config.Enrol has enrolled; empty if none.
	Enrolled string `json:"enrolled_device,omitempty"`
}

// Endpoint is what was found at one of the key's endpoints. What is nil was not reached.
type Endpoint struct {
	Transport  string  `json:"transport"`
	Address    string  `json:"address"`
	ServerName string  `json:"server_name,omitempty"`
	Checks     []Check `json:"checks"`

	Lookup      *Lookup      `json:"lookup,omitempty"`
	Connects    []Connect    `json:"connects,omitempty"`
	TLS         *TLS         `json:"tls,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Website     *Website     `json:"website,omitempty"`
	Redirect    *Website     `json:"port_80,omitempty"`
	Door        *Door        `json:"door,omitempty"`
	Speed       *Speed       `json:"speed,omitempty"`
	Download    *Download    `json:"download,omitempty"`

	open, refused bool
}

// milliseconds is how documents tell a duration.
type milliseconds float64

func ms(d time.Duration) milliseconds {
	return milliseconds(d.Round(10*time.Microsecond)) / milliseconds(time.Millisecond)
}

func (m milliseconds) duration() time.Duration {
	return time.Duration(m * milliseconds(time.Millisecond))
}

// surveyor is one Run.
type surveyor struct {
	Config
	dialer *https.Dialer
	report Report
	last   time.Time   // of the last dial
	fresh  *device.Key // of the device that is to be enrolled
}

// Run looks at every endpoint in turn. Its only error is ctx's.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	s := &surveyor{Config: cfg, dialer: new(https.Dialer)}
	for _, ep := range cfg.Key.Endpoints {
		e := &Endpoint{Transport: ep.Transport, Address: ep.Addr(), ServerName: ep.Name, Checks: []Check{}}
		if e.Transport == "" {
			e.Transport = https.Name
		}
		s.report.Endpoints = append(s.report.Endpoints, e)
		if s.Begin != nil {
			s.Begin(e)
		}
		s.endpoint(ctx, ep, e)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	s.judge()
	return &s.report, nil
}

// judge draws the sum of all checks.
func (s *surveyor) judge() {
	r := &s.report
	open, refused := false, false
	for _, e := range r.Endpoints {
		open, refused = open || e.open, refused || e.refused
		for _, c := range e.Checks {
			switch c.Outcome {
			case Failed:
				r.Failures++
			case Warning:
				r.Warnings++
			}
		}
	}
	switch {
	case open && r.Failures == 0:
		r.Verdict = Works
	case open:
		r.Verdict = Partly
	case refused:
		r.Verdict = Refused
	default:
		r.Verdict = Blocked
	}
}

// endpoint looks at one endpoint.
func (s *surveyor) endpoint(ctx context.Context, ep accesskey.Endpoint, e *Endpoint) {
	if e.Transport != https.Name {
		known := Check{"transport", Skipped, "transport " + e.Transport + " is not looked at", "godwit up --transport " + e.Transport + " tries it"}
		if !slices.Contains(transports.Names(), e.Transport) {
			known = Check{"transport", Skipped, "this Godwit has no transport \"" + e.Transport + "\"", "a newer one may"}
		}
		s.check(ctx, e, known)
		return
	}
	tcp, addr := s.reach(ctx, ep, e)
	if tcp == nil {
		return
	}
	if !s.visit(ctx, tcp, ep, e) {
		return
	}
	s.redirect(ctx, ep, addr, e)
	if e.Certificate.Pin == pinOther {
		s.check(ctx, e, Check{Name: "door", Outcome: Skipped,
			Detail: "not knocked at: nothing of the key is sent to whoever holds another one"})
		return
	}
	s.door(ctx, ep, addr, e)
}

// check adds a check to e and tells it; after ctx's end it means nothing.
func (s *surveyor) check(ctx context.Context, e *Endpoint, c Check) {
	if ctx.Err() != nil {
		return
	}
	e.Checks = append(e.Checks, c)
	if s.Done != nil {
		s.Done(c)
	}
}

func (s *surveyor) doing(what string) {
	if s.Doing != nil {
		s.Doing(what)
	}
}

// space waits until another dial may be.
func (s *surveyor) space(ctx context.Context) {
	if wait := transport.DialSpacing - time.Since(s.last); !s.last.IsZero() && wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	s.last = time.Now()
}
