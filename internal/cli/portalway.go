package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/hostnet"
	"github.com/godwit-vpn/godwit/internal/portal"
)

// portalWay is how a person logs in to a network that wants it, while this machine's network is shut: by a proxy past the tunnel,
// for one browser, to the login page's sites. The firewall stays as it is, and the way ends with this process.
//
//	shut ── asked ──> open ── a link is up, the time is over, asked to end ──> shut
//	                   └─ asked again: for longer
type portalWay struct {
	c   *client.Client
	log *slog.Logger
	ctx context.Context // the process's

	asking sync.Mutex // one question at a time
	gate   portal.Gate

	mu   sync.Mutex // guards what is below
	doc  portalDoc
	end  time.Time          // of both clocks
	stop context.CancelFunc // nil: shut
	gone chan struct{}      // closed when it is shut again
}

// portalDoc is what status tells of an open one.
type portalDoc struct {
	Until   time.Time `json:"until"`
	Left    float64   `json:"seconds_left"`
	URL     string    `json:"url"`   // the login page, or what leads to it
	Proxy   string    `json:"proxy"` // the browser's
	Open    bool      `json:"open"`  // the browser may go anywhere
	Refused []string  `json:"refused,omitempty"`
}

// portalAsk is what 'godwit portal' asks of the process.
type portalAsk struct {
	For  time.Duration `json:"for,omitempty"`
	Open bool          `json:"open,omitempty"`
	End  bool          `json:"end,omitempty"`
}

// portalAnswer is what it is answered.
type portalAnswer struct {
	Error string     `json:"error,omitempty"`
	Way   *portalDoc `json:"way,omitempty"` // nil: shut
}

const (
	// mostPortal is for how long a way may be open, from when it was last asked for.
	mostPortal = 30 * time.Minute
	// While the browser does something the network may let us out at any moment: links are dialled again this often.
	portalDials = 5 * time.Second
	portalIdle  = 30 * time.Second
)

// answer does what is asked.
func (w *portalWay) answer(text []byte) (any, error) {
	var ask portalAsk
	if err := json.Unmarshal(text, &ask); err != nil {
		return nil, err
	}
	w.asking.Lock()
	defer w.asking.Unlock()
	if ask.End {
		w.shut()
		return portalAnswer{}, nil
	}
	err := w.open(ask)
	answer := portalAnswer{Way: w.status()}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer, nil
}

func (w *portalWay) open(ask portalAsk) error {
	if ask.For <= 0 || ask.For > mostPortal {
		return fmt.Errorf("%v is not above 0 and at most %v", ask.For, mostPortal)
	}
	if w.c.Status().State == client.Connected {
		return errPortalConnected
	}
	if now := w.status(); now == nil || ask.Open && !now.Open {
		page, err := portal.Find(w.ctx, hostnet.Protect)
		if err != nil && !ask.Open {
			return err
		}
		w.gate.Set(page, ask.Open)
		w.mu.Lock()
		w.doc.URL, w.doc.Open = page.URL, ask.Open
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end = time.Now().Add(ask.For)
	if w.stop != nil {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.doc.Proxy = l.Addr().String()
	ctx, stop := context.WithCancel(w.ctx)
	gone := make(chan struct{})
	w.stop, w.gone = stop, gone
	w.log.Warn("one browser may log in to this network, past the tunnel", "for", ask.For, "anywhere", ask.Open)
	go func() {
		var wg sync.WaitGroup
		wg.Go(func() {
			defer stop()
			w.watch(ctx)
		})
		err := w.c.ServeLogin(ctx, l, w.gate.Pass)
		asked := ctx.Err() != nil
		stop()
		wg.Wait()
		if !asked {
			w.log.Error("the login's proxy has failed", "err", err)
		}
		w.log.Info("the way past the tunnel is shut again")
		w.mu.Lock()
		w.stop = nil
		w.mu.Unlock()
		close(gone)
		w.c.NetworkChanged() // who has logged in may be let out
	}()
	return nil
}

// watch returns when the way is to be shut.
func (w *portalWay) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	dialled := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		w.mu.Lock()
		end := w.end
		w.mu.Unlock()
		// By either clock: the machine may have slept, and be elsewhere.
		if !now.Before(end) || !now.Round(0).Before(end.Round(0)) || w.c.Status().State == client.Connected {
			return
		}
		if now.Sub(dialled) >= portalDials && now.Sub(w.gate.Used()) < portalIdle {
			dialled = now
			w.c.NetworkChanged()
		}
	}
}

// shut ends the way and waits until it is shut.
func (w *portalWay) shut() {
	w.mu.Lock()
	stop, gone := w.stop, w.gone
	w.mu.Unlock()
	if stop != nil {
		stop()
		<-gone
	}
}

// status is nil where there is no way, also with a nil portalWay.
func (w *portalWay) status() *portalDoc {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop == nil {
		return nil
	}
	doc := w.doc
	doc.Until, doc.Left = w.end.Round(0), max(0, time.Until(w.end).Seconds())
	doc.Refused = w.gate.Refused()
	return &doc
}
