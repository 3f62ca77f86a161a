package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall/rules"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/weather"
)

// Weather has Godwit carry traffic while a firewall changes its rules.
type Weather struct {
	Seed   uint64
	Length time.Duration
	TUN    bool // the client's whole host is captured
	Tools  *peer.Tools
	// Logs, if not empty, is a directory for what both ends say.
	Logs string
}

// The traffic: an echo now and then in one long stream, and downloads one after another, slow enough for many seeds at once.
const (
	echoEvery     = time.Second
	downloadBytes = 3 << 20
	downloadRate  = 400_000 // bytes a second
	// silenceIsLoss is how long a stream may be silent until it counts as lost, and opening one may take.
	silenceIsLoss = 90 * time.Second
	// memoryEvery is how often memory is looked at.
	memoryEvery = 10 * time.Second
)

// godwitPeer is Godwit's name among the peers.
func godwitPeer(tun bool) string {
	if tun {
		return "godwit-tun"
	}
	return "godwit"
}

// Run does it, once.
func (w Weather) Run(ctx context.Context) (r weather.Run, err error) {
	s, err := newSteady(ctx, godwitPeer(w.TUN), w.Tools, w.Seed, path, nil, w.Logs)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	echo, err := s.first(ctx)
	if err != nil {
		return r, err
	}
	spells := rules.Forecast(w.Seed, w.Length)
	u := &underWeather{steady: s, run: weather.Run{Seed: w.Seed, TUN: w.TUN, Length: w.Length}, begin: time.Now()}
	for _, sp := range spells {
		u.run.Spells = append(u.run.Spells, weather.Spell{Mood: sp.Mood.String(), At: sp.At, For: sp.For})
	}
	ctx, cancel := context.WithTimeout(ctx, w.Length+2*silenceIsLoss)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { u.echoes(ctx, echo) })
	wg.Go(func() { u.downloads(ctx) })
	wg.Go(func() { u.remember(ctx) })
	for i, sp := range spells {
		if sleep(ctx, time.Until(u.begin.Add(sp.At))) != nil {
			break
		}
		s.weather.Set(sp.Mood)
		err := sleep(ctx, sp.For)
		met, _ := s.weather.Met()
		u.mu.Lock()
		u.run.Spells[i].Met = met
		u.mu.Unlock()
		s.weather.Set(rules.Calm)
		if err != nil {
			break
		}
	}
	wg.Wait()
	for _, at := range s.dials.since(u.begin) {
		u.run.Dials = append(u.run.Dials, at)
		if sp := u.spell(at); sp != nil {
			sp.Dials++
		}
	}
	if stopped(ctx) {
		return u.run, ctx.Err()
	}
	return u.run, nil
}

// stopped reports whether someone has ended the run; what is not done in time is a fault of the run.
func stopped(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// first opens the stream of echoes as soon as the client has found its way.
func (s *steady) first(ctx context.Context) (net.Conn, error) {
	for begin := time.Now(); ; {
		c, err := s.open(ctx, echoAddr, firstVisit)
		if err == nil {
			return c, nil
		}
		if time.Since(begin) > firstVisit || sleep(ctx, time.Second) != nil {
			return nil, fmt.Errorf("before any weather: %w", err)
		}
	}
}

// underWeather is a run while it lasts.
type underWeather struct {
	*steady
	begin time.Time

	mu  sync.Mutex
	run weather.Run
}

// over reports whether the time is up.
func (u *underWeather) over(ctx context.Context) bool {
	return ctx.Err() != nil || time.Since(u.begin) > u.run.Length
}

// spell is the last one that began before a time; nil before the first. mu is held.
func (u *underWeather) spell(at time.Duration) (last *weather.Spell) {
	for i := range u.run.Spells {
		if u.run.Spells[i].At <= at {
			last = &u.run.Spells[i]
		}
	}
	return last
}

func (u *underWeather) broke(what string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := time.Since(u.begin)
	mood := "calm"
	if sp := u.spell(at); sp != nil {
		mood = fmt.Sprintf("%q since %v, for %v", sp.Mood, sp.At, sp.For)
	}
	u.run.Broken = append(u.run.Broken, fmt.Sprintf("%s at %v, %s: %v", what, at.Truncate(time.Millisecond), mood, err))
}

// echoes sends a line now and then and wants it back, in order, until the time is up.
func (u *underWeather) echoes(ctx context.Context, c net.Conn) {
	defer c.Close()
	sent := make(chan time.Time, 2*int(silenceIsLoss/echoEvery)) // what has no echo yet, and never more
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(sent)
		for n := 0; !u.over(ctx) && len(sent) < cap(sent); n++ {
			sent <- time.Now()
			if _, err := fmt.Fprintf(c, "%d\n", n); err != nil {
				return // the reader says what is wrong
			}
			if sleep(ctx, echoEvery) != nil {
				return
			}
		}
	})
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	lines := bufio.NewReader(c)
	n := 0
	for at := range sent {
		c.SetReadDeadline(time.Now().Add(silenceIsLoss))
		line, err := lines.ReadString('\n')
		if got, _ := strconv.Atoi(strings.TrimSpace(line)); err == nil && got != n {
			err = fmt.Errorf("%q came for %d", line, n)
		}
		if err != nil {
			if !stopped(ctx) {
				u.broke("the stream of echoes", err)
			}
			c.Close()
			for range sent { // until the writer has seen it
			}
			return
		}
		n++
		wait := time.Since(at)
		u.mu.Lock()
		u.run.Echoes++
		u.run.EchoStall = max(u.run.EchoStall, wait)
		if sp := u.spell(time.Since(u.begin)); sp != nil {
			sp.Echo = max(sp.Echo, wait)
		}
		u.mu.Unlock()
	}
}

// downloads fetches one file after another until the time is up.
func (u *underWeather) downloads(ctx context.Context) {
	for n := uint64(1); !u.over(ctx); n++ {
		c, err := u.open(ctx, downloadAddr, silenceIsLoss)
		if err != nil {
			u.mu.Lock()
			u.run.Refused++
			u.mu.Unlock()
			if sleep(ctx, time.Second) != nil {
				return
			}
			continue
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		last := time.Now()
		err = download(c, order{u.run.Seed<<32 + n, downloadBytes, downloadRate}, silenceIsLoss, func(n int, at time.Time) {
			u.mu.Lock()
			defer u.mu.Unlock()
			stall := at.Sub(last)
			last = at
			u.run.Bytes += int64(n)
			u.run.DownloadStall = max(u.run.DownloadStall, stall)
			if sp := u.spell(at.Sub(u.begin)); sp != nil {
				sp.Download = max(sp.Download, stall)
			}
		})
		c.Close()
		stop()
		switch {
		case err == nil:
			u.mu.Lock()
			u.run.Downloads++
			u.mu.Unlock()
		case !stopped(ctx):
			u.broke("a download", err)
		}
	}
}

// remember looks at both ends' memory now and then.
func (u *underWeather) remember(ctx context.Context) {
	for !u.over(ctx) && sleep(ctx, memoryEvery) == nil {
		m := weather.Memory{At: time.Since(u.begin), Client: resident(u.ends[0].PID()), Gateway: resident(u.ends[1].PID())}
		u.mu.Lock()
		u.run.Memory = append(u.run.Memory, m)
		u.mu.Unlock()
	}
}

// resident is how much memory a process holds, in bytes: the second field of statm, in pages (proc(5)).
func resident(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
