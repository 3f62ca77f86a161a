package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

// countEvery is how often what was carried is added to control's totals, give or take a fifth, so that the gateways of
// a fleet do not write at once. What an access key can carry beyond its limit is what flows meanwhile.
const countEvery = 5 * time.Second

// lastCountTime bounds how long the gateway's end waits for a database that another process keeps locked.
const lastCountTime = 5 * time.Second

// usage is what sessions carried and control's totals do not have yet.
//
//	session.Carried ── take ──▶ due ── addUsage ──▶ control's totals
//
// A byte is in one of the three at any time: if control cannot take it, it goes back to due.
type usage struct {
	mu  sync.Mutex
	due map[payer]int64

	failing bool // only addUsage uses it, which runs once at a time
}

// payer is whose bytes are counted together.
type payer struct {
	device device.ID
	keyID  [8]byte
}

// take moves what v's session carried since the last time to what is due.
func (u *usage) take(v *guest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	carried := v.session.Carried()
	if n := int64(carried - v.counted); n > 0 {
		u.addLocked(payer{v.device, v.keyID}, n)
	}
	v.counted = carried
}

func (u *usage) addLocked(p payer, n int64) {
	if u.due == nil {
		u.due = make(map[payer]int64)
	}
	u.due[p] += n
}

// takeDue empties what is due.
func (u *usage) takeDue() []control.Traffic {
	u.mu.Lock()
	defer u.mu.Unlock()
	due := make([]control.Traffic, 0, len(u.due))
	for p, n := range u.due {
		due = append(due, control.Traffic{KeyID: p.keyID, Device: p.device, Bytes: n})
	}
	u.due = nil
	return due
}

// counted reports whether nothing is due.
func (u *usage) counted() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.due) == 0
}

func (u *usage) giveBack(due []control.Traffic) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range due {
		u.addLocked(payer{t.Device, t.KeyID}, t.Bytes)
	}
}

// addUsage adds what was carried to control's totals, for all devices in one transaction, or keeps it. Control then
// says by way of revoked which access keys have reached their limits.
func (g *Gateway) addUsage(ctx context.Context) {
	for _, v := range g.guests(everyone) {
		g.usage.take(v)
	}
	due := g.usage.takeDue()
	if len(due) == 0 {
		return
	}
	err := g.cfg.Control.AddTraffic(ctx, due)
	switch {
	case err != nil:
		g.usage.giveBack(due)
		if ctx.Err() == nil && !g.usage.failing { // said once, not every few seconds
			g.log.Warn("what was carried cannot be added to the month's totals; it is kept, and added when that works again; "+
				"until then no access key reaches its limit", "error", err)
			g.usage.failing = true
		}
	case g.usage.failing:
		g.log.Info("what was carried can be added to the month's totals again, and was")
		g.usage.failing = false
	}
}

// countUsage calls addUsage now and then, until ctx is done.
func (g *Gateway) countUsage(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(countEvery*4/5 + rand.N(countEvery*2/5))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			g.addUsage(ctx)
		}
	}
}

// countLast adds what is left when every session has ended. What cannot be added now is lost.
func (g *Gateway) countLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCountTime)
	defer cancel()
	g.addUsage(ctx)
}

// untilNextMonth is when a key that is used up can be used again, at least a second from now, and at most a day, after
// which clients ask again: a clock may have been wrong.
func untilNextMonth(now time.Time) time.Duration {
	left := control.MonthOf(now).End().Sub(now)
	return min(left.Truncate(time.Second)+time.Second, 24*time.Hour)
}
