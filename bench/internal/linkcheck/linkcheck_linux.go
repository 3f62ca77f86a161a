// Package linkcheck compares a linkmodel path with what it promises, from outside: by ping and by numbered UDP
// datagrams between the two hosts at its ends. It states errors and passes no judgement.
package linkcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
)

// Report is what was found on a path that does the same in both directions.
type Report struct {
	Direction linkmodel.Direction
	Pings     int
	RTT       []time.Duration // sorted
	// Under is offered six tenths of the rate, so that nothing but Loss is lost; Over one and a half times the rate.
	// Without a rate both are 200 Mbit/s.
	Under, Over UDP
	Up, Down    linkmodel.Stats
}

// UDP is one stream of datagrams from client to gateway.
type UDP struct {
	OfferedMbps    float64 // frames, as the link counts them
	Sent, Received int
	Duplicates     int
	Overtaken      int             // datagrams that came after one sent later
	Mbps           float64         // frames
	OneWay         []time.Duration // sorted
}

// LossFound is the fraction of datagrams that never came.
func (u UDP) LossFound() float64 { return 1 - float64(u.Received)/float64(max(1, u.Sent)) }

const (
	payload = 1472
	frame   = payload + 8 + 20 + 14
	port    = 7010
)

// Start makes the transit of a Net carry frames as spec says, until stop, which tells what happened client to gateway
// and back.
type Start func(n *topology.Net, spec linkmodel.Spec) (stop func() (up, down linkmodel.Stats, err error), err error)

// Run makes a path on hosts of its own and measures it, each part for the given time.
func Run(ctx context.Context, d linkmodel.Direction, each time.Duration, start Start) (rep *Report, err error) {
	n, err := topology.New(topology.Config{Linked: true})
	if err != nil {
		return nil, err
	}
	defer n.Close()
	stop, err := start(n, linkmodel.Symmetric(d, 1))
	if err != nil {
		return nil, err
	}
	defer func() {
		up, down, stopErr := stop()
		err = errors.Join(err, stopErr)
		if rep != nil {
			rep.Up, rep.Down = up, down
		}
	}()

	rep = &Report{Direction: d}
	const interval = 10 * time.Millisecond
	rep.Pings = max(1, int(each/interval))
	rep.RTT, err = n.Client.Ping(ctx, topology.GatewayAddr, rep.Pings, interval, 2*(d.Delay+d.Jitter)+time.Second)
	if err != nil {
		return nil, err
	}
	slices.Sort(rep.RTT)
	under, over := 200e6, 200e6
	if d.Rate > 0 {
		under, over = 0.6*float64(d.Rate), 1.5*float64(d.Rate)
	}
	if rep.Under, err = stream(ctx, n, under, each, d); err != nil {
		return nil, err
	}
	if rep.Over, err = stream(ctx, n, over, each, d); err != nil {
		return nil, err
	}
	return rep, nil
}

func socket(h *netns.Host, local netip.AddrPort) (conn *net.UDPConn, err error) {
	err = h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(local))
		return err
	})
	return conn, err
}

// stream sends numbered, dated datagrams at a rate of frames and takes them in at the gateway.
func stream(ctx context.Context, n *topology.Net, bps float64, each time.Duration, d linkmodel.Direction) (u UDP, err error) {
	out, err := socket(n.Client, netip.AddrPortFrom(topology.ClientAddr, 0))
	if err != nil {
		return u, err
	}
	defer out.Close()
	in, err := socket(n.Gateway, netip.AddrPortFrom(topology.GatewayAddr, port))
	if err != nil {
		return u, err
	}
	defer in.Close()
	in.SetReadBuffer(4 << 20)
	begin := time.Now()
	var first, last time.Duration
	done := make(chan error, 1)
	go func() {
		buf := make([]byte, 2048)
		seen, highest := make(map[uint32]bool), int64(-1)
		for {
			k, err := in.Read(buf)
			if err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					err = nil
				}
				done <- err
				return
			}
			now := time.Since(begin)
			if k < 12 {
				continue
			}
			seq := binary.BigEndian.Uint32(buf)
			if seen[seq] {
				u.Duplicates++
				continue
			}
			seen[seq] = true
			if int64(seq) < highest {
				u.Overtaken++
			}
			highest = max(highest, int64(seq))
			u.OneWay = append(u.OneWay, now-time.Duration(binary.BigEndian.Uint64(buf[4:])))
			if u.Received == 0 {
				first = now
			}
			last = now
			u.Received++
		}
	}()
	to := netip.AddrPortFrom(topology.GatewayAddr, port)
	buf := make([]byte, payload)
	gap := time.Duration(frame * 8 / bps * 1e9)
	for u.Sent = 0; time.Since(begin) < each && ctx.Err() == nil; u.Sent++ {
		if ahead := time.Until(begin.Add(time.Duration(u.Sent) * gap)); ahead > 500*time.Microsecond {
			time.Sleep(ahead)
		}
		binary.BigEndian.PutUint32(buf, uint32(u.Sent))
		binary.BigEndian.PutUint64(buf[4:], uint64(time.Since(begin)))
		if _, err := out.WriteToUDPAddrPort(buf, to); err != nil {
			return u, err
		}
	}
	sent := time.Since(begin)
	in.SetReadDeadline(time.Now().Add(d.Delay + d.Jitter + d.ReorderBy + d.QueueTime + 700*time.Millisecond))
	if err := <-done; err != nil {
		return u, err
	}
	u.OfferedMbps = float64(u.Sent*frame*8) / 1e6 / sent.Seconds()
	if last > first {
		u.Mbps = float64((u.Received-1)*frame*8) / 1e6 / (last - first).Seconds()
	}
	slices.Sort(u.OneWay)
	return u, ctx.Err()
}

func at(v []time.Duration, q float64) time.Duration {
	if len(v) == 0 {
		return 0
	}
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// Print writes a table of what was asked, what was found, and the difference.
func (r *Report) Print(w io.Writer) error {
	d := r.Direction
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, asked, found, off string) { fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, asked, found, off) }
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
	row("what", "asked", "found", "error")
	rtt := 2 * d.Delay
	for _, q := range []struct {
		name string
		q    float64
	}{{"min", 0}, {"median", 0.5}, {"99 %", 0.99}} {
		row("ping "+q.name, ms(rtt+d.Jitter), ms(at(r.RTT, q.q)), fmt.Sprintf("%+.2f ms", (at(r.RTT, q.q)-rtt-d.Jitter).Seconds()*1e3))
	}
	both := 1 - (1-d.Loss)*(1-d.Loss)
	loss := func(name string, asked, found float64, n int) {
		sigma := math.Sqrt(asked * (1 - asked) / float64(max(1, n)))
		row(name, fmt.Sprintf("%.2f %%", asked*100), fmt.Sprintf("%.2f %%", found*100),
			fmt.Sprintf("%+.2f points (1 sigma is %.2f)", (found-asked)*100, sigma*100))
	}
	loss("ping lost, both ways", both, 1-float64(len(r.RTT))/float64(r.Pings), r.Pings)
	loss(fmt.Sprintf("UDP lost at %.0f Mbit/s", r.Under.OfferedMbps), d.Loss, r.Under.LossFound(), r.Under.Sent)
	row("UDP one way, median", ms(d.Delay+d.Jitter/2), ms(at(r.Under.OneWay, 0.5)),
		fmt.Sprintf("%+.2f ms", (at(r.Under.OneWay, 0.5)-d.Delay-d.Jitter/2).Seconds()*1e3))
	row("UDP one way, 99 %", "", ms(at(r.Under.OneWay, 0.99)), "")
	if d.Rate > 0 {
		asked := float64(d.Rate) / 1e6 * (1 - d.Loss)
		row(fmt.Sprintf("rate, offered %.0f Mbit/s", r.Over.OfferedMbps), fmt.Sprintf("%.1f Mbit/s", asked),
			fmt.Sprintf("%.1f Mbit/s", r.Over.Mbps), fmt.Sprintf("%+.1f %%", (r.Over.Mbps/asked-1)*100))
		queue := d.QueueTime
		if queue == 0 {
			queue = linkmodel.DefaultQueueTime
		}
		full := d.Delay + d.Jitter + queue
		row("one way behind a full queue", ms(full), ms(at(r.Over.OneWay, 0.9)),
			fmt.Sprintf("%+.2f ms", (at(r.Over.OneWay, 0.9)-full).Seconds()*1e3))
	} else {
		row("rate, no limit", fmt.Sprintf("%.0f Mbit/s", r.Over.OfferedMbps), fmt.Sprintf("%.1f Mbit/s", r.Over.Mbps), "")
	}
	row("duplicates", fmt.Sprintf("%.2f %%", d.Duplicate*100),
		fmt.Sprintf("%.2f %%", 100*float64(r.Under.Duplicates)/float64(max(1, r.Under.Received))), "")
	row("overtaken", "", fmt.Sprint(r.Under.Overtaken+r.Over.Overtaken), "")
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		linkmodel.Stats
	}{{"up", r.Up}, {"down", r.Down}} {
		fmt.Fprintf(w, "%s: %d frames, %d lost, %d dropped by the queue; left late by %d µs (50 %%), %d µs (99 %%), %d µs (most); "+
			"oversize %d, unfinished %d, missed by the kernel %d\n", s.name, s.Frames, s.Lost, s.Dropped,
			s.LateP50us, s.LateP99us, s.LateMaxus, s.Oversize, s.Unfinished, s.KernelDrop)
	}
	how := "as an ordinary process: a busy machine stretches the path"
	if r.Up.Realtime && r.Down.Realtime {
		how = "before all ordinary processes"
	}
	_, err := fmt.Fprintf(w, "the link model runs %s; it used %.2f s of CPU for %d frames\n", how, r.Up.CPUSeconds+r.Down.CPUSeconds,
		r.Up.Frames+r.Down.Frames)
	return err
}
