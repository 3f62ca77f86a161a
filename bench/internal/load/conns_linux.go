package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// connLimit is how long a single new connection may take before it counts as failed.
const connLimit = 20 * time.Second

func (r *runner) connRate(ctx context.Context) error {
	begin, err := r.sample(func() (int64, error) { return 0, nil })
	if err != nil {
		return err
	}
	deadline := begin.at.Add(r.seconds())
	var mu sync.Mutex
	var all []time.Duration
	var failed atomic.Int64
	var why atomic.Pointer[error]
	var wg sync.WaitGroup
	for range max(1, r.Workers) {
		wg.Go(func() {
			var mine []time.Duration
			for time.Now().Before(deadline) && ctx.Err() == nil {
				c, cancel := context.WithTimeout(ctx, connLimit)
				d, err := r.echoOnce(c)
				cancel()
				switch {
				case err != nil:
					failed.Add(1)
					why.Store(&err)
					pause(ctx, 10*time.Millisecond)
				case time.Now().Before(deadline):
					mine = append(mine, d)
				}
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	pause(ctx, time.Until(deadline))
	end, err := r.sample(func() (int64, error) { return 0, nil })
	wg.Wait()
	if err != nil {
		return err
	}
	if len(all) == 0 && why.Load() != nil {
		return *why.Load()
	}
	m := r.res.Metrics
	m["per_s"] = float64(len(all)) / r.Seconds
	m["failed"] = float64(failed.Load())
	for role := range r.Processes {
		m[role+"_ms_per_conn"] = (end.roles[role] - begin.roles[role]).Seconds() * 1e3 / float64(max(1, len(all)))
	}
	r.quantiles(all, "ms", time.Millisecond)
	return nil
}

func (r *runner) connTime(ctx context.Context) error {
	var all []time.Duration
	failed, last := 0, error(nil)
	for end := time.Now().Add(r.seconds()); time.Now().Before(end) && (r.Count == 0 || len(all)+failed < r.Count); {
		c, cancel := context.WithTimeout(ctx, connLimit)
		d, err := r.echoOnce(c)
		cancel()
		if err != nil {
			failed, last = failed+1, err
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		return fmt.Errorf("no connection: %w", last)
	}
	r.res.Metrics["failed"] = float64(failed)
	r.quantiles(all, "ms", time.Millisecond)
	return nil
}

func (r *runner) fetch(ctx context.Context) error {
	tr := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return r.dial(ctx, PortHTTPS) },
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}, // its own fresh target
		DisableKeepAlives: true,
	}
	defer tr.CloseIdleConnections()
	url := fmt.Sprintf("https://%s/bytes/%d", r.Target, r.Bytes)
	one := func(ctx context.Context) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
		defer cancel()
		begin := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err == nil && n != int64(r.Bytes) {
			err = fmt.Errorf("got %d of %d bytes", n, r.Bytes)
		}
		return time.Since(begin), err
	}
	var all []time.Duration
	failed, last := 0, error(nil)
	for end := time.Now().Add(r.seconds()); time.Now().Before(end) && (r.Count == 0 || len(all)+failed < r.Count); {
		d, err := one(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed, last = failed+1, err
			continue
		}
		if len(all) == 0 {
			r.res.Metrics["first_s"] = d.Seconds()
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		return fmt.Errorf("no answer: %w", last)
	}
	r.res.Metrics["failed"] = float64(failed)
	r.quantiles(all, "s", time.Second)
	return nil
}

func (r *runner) ready(ctx context.Context) error {
	for end := time.Now().Add(r.seconds()); ; {
		c, cancel := context.WithTimeout(ctx, min(5*time.Second, time.Until(end)))
		_, err := r.echoOnce(c)
		cancel()
		if err == nil {
			r.res.Metrics["ready_unix_ns"] = float64(time.Now().UnixNano())
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not in %v: %w", r.seconds(), err)
		}
		if err := pause(ctx, 4*time.Millisecond); err != nil {
			return err
		}
	}
}
