package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/local"
)

// errStopped is the cause of an end that was asked for: by down, or by a service manager.
var errStopped = errors.New("asked to stop")

// runClient runs the client and its proxy until ctx is done or somebody asks it to stop, and then returns nil, or
// errInterrupted after a person's ^C; or until it has turned out that it will not work. up is called once data has
// flowed.
//
//	take the profile ─ listen ─┬─ Client.Run ───────── refused: return
//	      (and the machine)    ├─ Client.ServeTUN, if asked for
//	                           ├─ Client.ServeProxy
//	                           ├─ wait until ready ─── not in time: return
//	                           └─ answer status, stop
func (a *app) runClient(ctx context.Context, r upRequest, log *slog.Logger, up func(proxy string)) (err error) {
	dir := r.profiles.path(r.profile)
	inst, err := local.Take(dir, clientProcess)
	var held *local.HeldError
	if errors.As(err, &held) {
		return &alreadyUpError{profile: r.profile, pid: held.PID}
	} else if err != nil {
		return err
	}
	defer inst.Close()
	l, err := net.Listen("tcp", r.proxy)
	if err != nil {
		owner := r.profiles.proxyOwner(ctx, r.profile, r.proxy)
		return &busyPortError{setting: "flag --proxy", addr: r.proxy, owner: owner, err: err}
	}
	defer l.Close()
	cfg := r.config()
	cfg.Key, cfg.StateDir, cfg.Logger = r.key, r.profiles.stateOf(r.profile, r.key.ID), log
	cfg.Rules = r.profiles.rules()
	var wasUp atomic.Bool
	m := r.machine
	if r.tun {
		if m == nil {
			if m, err = takeMachine(&r.upFlags); err != nil {
				return err
			}
		}
		defer func() {
			switch asked := err == nil || errors.Is(err, errInterrupted); {
			case asked && r.service && errors.As(context.Cause(ctx), new(signalled)) && comesBack():
				log.Info("this machine's network stays shut until the service is there again")
			case asked || !wasUp.Load() && !r.service:
				m.release(log)
			default: // nobody asked for it to end: what the tunnel carried must not go beside it
				log.Warn("the tunnel ended, and this machine's network stays shut: 'godwit up --tun' or 'godwit rescue'")
			}
		}()
		m.configure(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		return byFlag(err)
	}
	r.profiles.noteEnd(r.profile, nil)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	proxy := l.Addr().String()
	var flow meter
	handler := local.Handler{
		Status: func() any {
			return statusDoc{Schema: "godwit.status/1", Version: a.version, Profile: r.profile, KeyID: r.key.ID.String(),
				PID: os.Getpid(), Since: began, Proxy: proxy, Machine: m.status(), Rates: flow.status(), Status: c.Status()}
		},
		Stop:   func() { cancel(errStopped) },
		Reload: func() error { return c.SetRules(r.profiles.rules()) },
		Steer: func(text []byte) (any, error) {
			var found []client.Finding
			if err := json.Unmarshal(text, &found); err != nil {
				return nil, err
			}
			return c.Steer(found)
		},
	}
	if m != nil {
		m.portal = &portalWay{c: c, log: log, ctx: ctx}
		defer m.portal.shut()
		handler.Portal = m.portal.answer
	}
	inst.Serve(handler)
	log.Info("the proxy listens", "address", proxy)
	if r.service {
		defer context.AfterFunc(ctx, func() { a.notify("STOPPING=1") })()
		// Not only once it is up: the network may wait for us, to come up behind the kill switch.
		a.notify("READY=1")
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Run(gctx) })
	g.Go(func() error {
		flow.run(gctx, c)
		return nil
	})
	if r.service {
		g.Go(func() error {
			a.tellManager(gctx, c, m != nil)
			return nil
		})
	}
	if m != nil {
		log.Info("the machine's traffic is captured", "tun", m.name)
		g.Go(func() error { return m.serve(gctx, c, log) })
	}
	g.Go(func() error {
		if err := c.ServeProxy(gctx, l); gctx.Err() == nil {
			return err
		}
		return nil
	})
	g.Go(func() error {
		if err := untilReady(gctx, c, r.timeout); err != nil || gctx.Err() != nil {
			return err
		}
		if r.save {
			if err := r.profiles.save(r.profile, r.key); err != nil {
				return err
			}
		}
		log.Info("up")
		wasUp.Store(true)
		up(proxy)
		return nil
	})
	err = g.Wait()
	var s signalled
	if err == nil && errors.As(context.Cause(ctx), &s) && s.Signal != syscall.SIGTERM {
		err = errInterrupted
	}
	if err != nil && (wasUp.Load() && r.report || r.service) {
		log.Error("the tunnel ended", "err", err)
		r.profiles.noteEnd(r.profile, err) // while the profile is still ours: whoever finds it free also finds the note
	}
	return err
}

// untilReady waits until data has flowed, or says why it did not in time. It returns nil when ctx is done: whoever
// ended that knows why.
func untilReady(ctx context.Context, c *client.Client, timeout time.Duration) error {
	wait := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := c.Ready(wait)
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.Is(err, client.ErrRefused):
		return err
	}
	st := c.Status()
	blocked := &blockedError{after: timeout, last: st.Error}
	if st.SomebodyElse {
		blocked.hint = "somebody else answers in the gateway's stead: if this network wants a login, do that in a browser, and try again; " +
			"if not, 'godwit doctor' finds out more"
	}
	return blocked
}

// proxyOwner says which profile other than the asking one has its proxy on an address; empty if none.
func (ps profiles) proxyOwner(ctx context.Context, asking, proxy string) string {
	names, _ := ps.names()
	for _, name := range names {
		if name == asking {
			continue
		}
		if doc, err := ps.status(ctx, name); err == nil && doc.Proxy == proxy {
			return fmt.Sprintf("profile %q, which is up as process %d", name, doc.PID)
		}
	}
	return ""
}
