package survey

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/link"
	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

// Door is what became of the knock.
type Door struct {
	Opened      bool         `json:"opened"`
	Took        milliseconds `json:"ms"` // from the knock to the answer: a round trip and what the gateway took
	PostQuantum bool         `json:"post_quantum"`
	Congestion  string       `json:"congestion_control,omitempty"` // at this end
	// Device says whether one was shown: "saved", "enrolled", or "none".
	Device string `json:"device"`
	// Answer is "welcome", "refused" or none, and Cause the refusal's number (PROTOCOL.md).
	Answer string     `json:"answer,omitempty"`
	Cause  wire.Cause `json:"cause,omitempty"`
	Reason string     `json:"reason,omitempty"`
	// ClockSkew is how far this machine's clock is ahead of the gateway's, in seconds.
	ClockSkew float64 `json:"clock_skew_seconds"`
	Error     string  `json:"error,omitempty"`
}

// The words for Door.Device.
const (
	deviceSaved    = "saved"
	deviceEnrolled = "enrolled"
	deviceNone     = "none"
)

// clockTolerance is the skew from which on a clock is called wrong. Certificates are good for an hour before they are
// made.
const clockTolerance = 5 * time.Minute

// door knocks, on a connection of its own, and measures behind it.
func (s *surveyor) door(ctx context.Context, ep accesskey.Endpoint, addr string, e *Endpoint) {
	d := &Door{Device: deviceSaved}
	e.Door = d
	k, err := s.knock(d)
	if err != nil {
		s.check(ctx, e, Check{"door", Failed, why(err), ""})
		return
	}
	s.doing("knocking at the door")
	conn, welcome, err := s.open(ctx, ep, addr, k, d)
	if conn != nil {
		defer conn.Close()
	}
	var refusal *link.Refusal
	if err != nil && !errors.As(err, &refusal) {
		d.Error = why(err)
		c := Check{"door", Failed, why(err), doorNext(err)}
		s.check(ctx, e, c)
		return
	}
	d.Opened, d.PostQuantum, e.open = true, true, true // the dialer takes nothing less
	text := fmt.Sprintf("opens, and answers after %s, post-quantum", took(d.Took.duration()))
	if d.Congestion != "" {
		text += ", " + d.Congestion + " at this end"
	}
	s.check(ctx, e, Check{"door", Good, text, ""})
	clock := welcome.Clock
	if refusal != nil {
		clock = refusal.Clock
	}
	if clock < 1<<40 { // later would be nonsense
		skew := time.Since(time.Unix(int64(clock), 0)).Round(time.Second)
		d.ClockSkew = skew.Seconds()
		if skew.Abs() > clockTolerance {
			s.check(ctx, e, Check{"clock", Warning, fmt.Sprintf("this machine's is %v off the gateway's", skew),
				"set the wrong one"})
		}
	}
	if refusal != nil {
		d.Answer, d.Cause, d.Reason = "refused", refusal.Cause, strings.TrimPrefix(refusal.Error(), "the gateway refused: ")
		s.refused(ctx, refusal, e)
		return
	}
	d.Answer = "welcome"
	if s.Device == nil {
		s.Device = &Device{Key: s.fresh, Cert: welcome.Cert} // for what follows
		s.report.Enrolled = s.fresh.ID().String()
	}
	reached := "nothing"
	switch f := welcome.Families; {
	case f.Has(flow.IPv4 | flow.IPv6):
		reached = "IPv4 and IPv6"
	case f.Has(flow.IPv4):
		reached = "IPv4"
	case f.Has(flow.IPv6):
		reached = "IPv6"
	}
	c := Check{"device", Good, d.Device + ", and welcome; the gateway reaches " + reached, ""}
	if s.report.Enrolled != "" {
		c.Next = "it holds one of the key's places until, on the gateway, 'godwit device revoke " + s.report.Enrolled + "'"
	}
	if welcome.Families == 0 {
		c.Outcome, c.Next = Warning, "the gateway itself has no network: see 'godwit gateway status' there"
	}
	s.check(ctx, e, c)
	if !s.Quick {
		s.speed(ctx, conn, e)
	}
	farewell(conn)
	if s.URL != nil {
		conn.Close()
		s.download(ctx, ep, addr, e)
	}
}

// knock makes what the door is shown: the device there is, or one that lives in memory alone.
func (s *surveyor) knock(d *Door) (link.Knock, error) {
	k := link.Knock{Transport: s.dialer.Transport(), KeyID: s.Key.ID, Secret: s.Key.Secret.Reveal()}
	rand.Read(k.Session[:])
	if s.Device != nil {
		k.Device, k.Cert = s.Device.Key, s.Device.Cert
		if s.report.Enrolled != "" {
			d.Device = deviceEnrolled
		}
		// Without this flag everything is checked, and no session begun.
		if !s.Device.InUse && (!s.Quick || s.URL != nil) {
			k.Flags = wire.HelloNew
		}
		return k, nil
	}
	d.Device = deviceNone
	if s.fresh == nil {
		var err error
		if s.fresh, err = device.New(rand.Reader); err != nil {
			return k, err
		}
	}
	k.Device = s.fresh
	if s.Enrol {
		d.Device, k.Flags = deviceEnrolled, wire.HelloEnrol|wire.HelloNew
	}
	return k, nil
}

// open dials and waits for the gateway's answer. The connection is there with an answer only.
func (s *surveyor) open(ctx context.Context, ep accesskey.Endpoint, addr string, k link.Knock, d *Door) (transport.Conn,
	wire.Welcome, error) {
	s.space(ctx)
	conn, err := s.dialer.Dial(ctx, transport.Endpoint{Addr: addr, Name: ep.Name, Pins: s.Key.Pins(), Opener: k})
	if err != nil {
		return nil, wire.Welcome{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	began := time.Now()
	conn.SetDeadline(began.Add(transport.HandshakeTimeout))
	if t, ok := conn.(transport.Tuned); ok {
		d.Congestion = t.Congestion()
	}
	t, body, err := nextFrame(conn)
	if err != nil {
		conn.Close()
		return nil, wire.Welcome{}, err
	}
	d.Took = ms(time.Since(began))
	w, err := link.ParseAnswer(t, body)
	return conn, w, err
}

// nextFrame reads up to the next frame that means something.
func nextFrame(conn transport.Conn) (wire.Type, []byte, error) {
	for {
		t, body, err := wire.ReadFrame(conn, wire.MaxFrame)
		if err != nil || t != wire.TypePadding {
			return t, body, err
		}
	}
}

// doorNext says what a door that did not open can mean.
func doorNext(err error) string {
	switch {
	case errors.Is(err, transport.ErrDoor):
		return "the server holds the right TLS key and takes this key for a stranger's: the access key is of an earlier " +
			"'gateway init', or another web server answers with the gateway's TLS key; ask for a new access key"
	case errors.Is(err, transport.ErrPin):
		return "another server than a moment ago answered: several share this address, or somebody sits in between"
	}
	return "a stranger is let through, and this is cut: ask whoever runs the gateway whether it runs, and try from " +
		"another network"
}

// refused tells what the gateway's no means.
func (s *surveyor) refused(ctx context.Context, r *link.Refusal, e *Endpoint) {
	reason := e.Door.Reason
	c := Check{"device", Failed, "refused: " + reason, ""}
	const ask = "ask whoever gave you the access key: they see keys and devices with 'godwit key list'"
	shown := e.Door.Device != deviceNone
	switch {
	case r.Cause == wire.CauseProof && !shown:
		c = Check{"device", Skipped, "none was shown, so whether one is let in, and how fast it is, cannot be told",
			"'godwit up' with this key first, or --enrol, which takes one of the key's places"}
	case r.Cause == wire.CauseSessionUnknown && s.Device != nil && s.Device.InUse:
		c = Check{"device", Good, "known, and may in", ""}
		s.check(ctx, e, c)
		c = Check{"speed", Skipped, "not measured: the tunnel is up with this device", "'godwit down' first"}
	case r.Cause == wire.CauseSessionUnknown && s.Quick:
		c = Check{"device", Good, "known, and may in", ""}
	case r.Cause == wire.CauseCertExpired:
		c.Outcome, c.Next = Warning, "'godwit up' renews it"
	case r.Cause == wire.CauseBusy || r.Cause == wire.CauseNoControl:
		c.Next = fmt.Sprintf("try again in %d s", r.Retry)
	case r.Cause == wire.CauseVersion:
		c.Next = "update this Godwit"
	case r.Cause == wire.CauseClock:
		c.Next = fmt.Sprintf("this machine's clock is %v off the gateway's: set it", r.ClockSkew(time.Now()))
	default:
		c.Next = ask
	}
	if busy := r.Cause == wire.CauseBusy || r.Cause == wire.CauseNoControl; c.Outcome == Failed && !busy {
		e.open, e.refused = false, true
	}
	s.check(ctx, e, c)
}

// Speed is what a link carries.
type Speed struct {
	// RoundTrips are those that were measured, on the idle link; RTT is their median.
	RoundTrips []milliseconds `json:"round_trips_ms"`
	RTT        milliseconds   `json:"rtt_ms"`
	// Up is the rate at which the gateway took bytes, from the first to the last that it confirmed.
	UpBytes   int64   `json:"up_bytes"`
	UpSeconds float64 `json:"up_seconds"`
	Up        float64 `json:"up_bits_per_second"`
	// Resent is the part of the segments that had to be sent again, where the system tells.
	Resent float64 `json:"up_resent"`
	Error  string  `json:"error,omitempty"`
}

const (
	pings = 5
	// upTime and upMost bound the upload: what it carries counts against the access key's limit.
	upTime = 3 * time.Second
	upMost = 32 << 20
	// upStep is how much lies between two confirmations.
	upStep = 16 << 10
	// upPings are the confirmations under way at most: a gateway that cannot send them at once drops some beyond that.
	upPings = 64
	// upWait is how long the last ones may take, upStall how long none may come.
	upWait  = 5 * time.Second
	upStall = 3 * time.Second
	// upUnsent is how much may wait in the kernel, as with a session's links.
	upUnsent = 128 << 10
)

// speed measures round trips, and how fast PADDING goes up: a PING behind a step of it comes back once the gateway
// has read that far. Nothing there sends as much down; that needs a site to send it.
func (s *surveyor) speed(ctx context.Context, conn transport.Conn, e *Endpoint) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sp := &Speed{RoundTrips: []milliseconds{}}
	e.Speed = sp
	s.doing("measuring round trips")
	var all []time.Duration
	for id := range uint64(pings) {
		began := time.Now()
		conn.SetDeadline(began.Add(upWait))
		_, err := conn.Write(wire.AppendPing(nil, id))
		if err == nil {
			err = pong(conn, id)
		}
		if err != nil {
			sp.Error = why(err)
			s.check(ctx, e, Check{"round trip", Failed, why(err), "the gateway let the device in, and then the link broke: " +
				"try again, and from another network"})
			return
		}
		all = append(all, time.Since(began))
		sp.RoundTrips = append(sp.RoundTrips, ms(all[id]))
	}
	slices.Sort(all)
	sp.RTT = ms(all[pings/2])
	s.check(ctx, e, Check{"round trip", Good, fmt.Sprintf("%s, the median of %d", took(all[pings/2]), pings), ""})

	s.doing(fmt.Sprintf("sending for %v", upTime))
	err := sp.upload(conn)
	if sp.UpBytes == 0 {
		sp.Error = firstOf(sp.Error, "nothing was confirmed")
		if err != nil {
			sp.Error = why(err)
		}
		s.check(ctx, e, Check{"up", Failed, sp.Error, "small requests pass and larger ones do not: a firewall freezes " +
			"what carries more, or the path drops large packets; try from another network"})
		return
	}
	c := Check{Name: "up", Outcome: Good, Detail: fmt.Sprintf("%s (%s in %.1f s", amount(sp.Up, "bit/s"),
		amount(float64(sp.UpBytes), "B"), sp.UpSeconds)}
	if sp.Resent >= 0.001 {
		c.Detail += fmt.Sprintf(", %.1f %% sent again", sp.Resent*100)
	}
	c.Detail += ")"
	if err != nil {
		sp.Error = why(err)
		c = Check{"up", Warning, fmt.Sprintf("%s came through, and then no more: %s", amount(float64(sp.UpBytes), "B"),
			why(err)), "a firewall cuts or freezes what carries more, or the network went: a client goes on over another link " +
			"each time, slowly"}
	}
	s.check(ctx, e, c)
	if s.URL == nil {
		s.check(ctx, e, Check{"down", Skipped, "not measured: that needs a site that sends",
			"--url fetches one through the gateway"})
	}
}

// pong waits for a PONG.
func pong(conn transport.Conn, id uint64) error {
	for {
		t, body, err := nextFrame(conn)
		if err != nil {
			return err
		}
		if t != wire.TypePong {
			continue
		}
		if got, err := wire.ParsePing(body); err != nil || got == id {
			return err
		}
	}
}

// upload sends, and notes how much of it was confirmed until when.
func (sp *Speed) upload(conn transport.Conn) error {
	tuned, _ := conn.(transport.Tuned)
	var before transport.Path
	if tuned != nil {
		tuned.SetUnsentLimit(upUnsent)
		before = tuned.Measure()
	}
	began := time.Now()
	end := began.Add(upTime + upWait)
	conn.SetDeadline(end)
	step := wire.AppendPadding(nil, upStep)
	const most = upMost / upStep
	var unanswered atomic.Int32
	sent := make(chan int64, 1) // how many steps: the sender does not wait for us
	go func() {
		n := int64(0)
		for ; n < most && time.Since(began) < upTime; n++ {
			batch := [][]byte{step}
			if unanswered.Load() < upPings {
				unanswered.Add(1)
				batch = append(batch, wire.AppendPing(nil, uint64(pings+n)))
			}
			if transport.WriteBatch(conn, batch) != nil {
				break
			}
		}
		sent <- n
		conn.Write(wire.AppendPing(nil, pings+most)) // its answer is the last one
	}()
	var last time.Duration
	steps := int64(0)
	var err error
	for ended := false; !ended; {
		var t wire.Type
		var body []byte
		if stall := time.Now().Add(upStall); stall.Before(end) {
			conn.SetReadDeadline(stall)
		} else {
			conn.SetReadDeadline(end)
		}
		if t, body, err = nextFrame(conn); err != nil {
			break
		}
		if t != wire.TypePong {
			continue
		}
		var id uint64
		if id, err = wire.ParsePing(body); err != nil {
			break
		}
		if id < pings || id > pings+most {
			continue
		}
		unanswered.Add(-1)
		last = time.Since(began)
		if ended = id == pings+most; ended {
			steps = <-sent
		} else {
			steps = int64(id-pings) + 1 // all before it have arrived, too
		}
	}
	if err != nil {
		if timedOut(err) && !time.Now().Before(end) && steps > 0 {
			err = nil // a queue on the way holds the rest; what was confirmed counts
		}
		conn.Close() // so that the sender ends
		<-sent
	}
	sp.UpBytes, sp.UpSeconds = steps*upStep, last.Seconds()
	if last > 0 {
		sp.Up = float64(sp.UpBytes) * 8 / sp.UpSeconds
	}
	if tuned != nil && err == nil {
		if after := tuned.Measure(); after.Sent > before.Sent {
			sp.Resent = float64(after.Resent-before.Resent) / float64(after.Sent-before.Sent)
		}
	}
	return err
}

// farewell ends the session, so that the gateway does not keep it for the client to come back.
func farewell(conn transport.Conn) {
	b := wire.AppendClose(nil, flow.CodeLocalShutdown)
	wire.PutSeq(b, 0)
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(b); err != nil {
		return
	}
	for {
		if _, _, err := nextFrame(conn); err != nil {
			return // the gateway has closed the link
		}
	}
}
