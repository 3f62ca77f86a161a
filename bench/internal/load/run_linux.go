package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Run runs one test.
func Run(ctx context.Context, cfg Config, s Spec) (*Result, error) {
	r := &runner{Config: cfg, Spec: s, res: &Result{Metrics: make(map[string]float64)}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tests := map[Kind]func(context.Context) error{
		Down: r.bulk, Up: r.bulk, PingPong: r.pingPong, Keystroke: r.keystroke, ConnRate: r.connRate,
		ConnTime: r.connTime, Fetch: r.fetch, UDP: r.udp, Page: r.page, Ready: r.ready,
	}
	test := tests[s.Kind]
	if test == nil {
		return nil, fmt.Errorf("unknown test %q", s.Kind)
	}
	if err := test(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Kind, err)
	}
	return r.res, nil
}

type runner struct {
	Config
	Spec
	res *Result
}

func (r *runner) seconds() time.Duration { return time.Duration(r.Seconds * float64(time.Second)) }

// sample is a moment: the bytes so far, and the CPU time of everybody.
type sample struct {
	at      time.Time
	bytes   int64
	machine time.Duration
	roles   map[string]time.Duration
}

func (r *runner) sample(bytes func() (int64, error)) (s sample, err error) {
	s.roles = make(map[string]time.Duration)
	for role, pgid := range r.Processes {
		if s.roles[role], err = groupTime(pgid); err != nil {
			return s, fmt.Errorf("%s: %w", role, err)
		}
	}
	s.machine = MachineBusy()
	s.bytes, err = bytes()
	s.at = time.Now()
	return s, err
}

// throughput notes what lies between two samples.
func (r *runner) throughput(a, b sample, prefix string) {
	m, secs, n := r.res.Metrics, b.at.Sub(a.at).Seconds(), float64(b.bytes-a.bytes)
	m[prefix+"mbps"] = n * 8 / 1e6 / secs
	m[prefix+"cores_busy"] = (b.machine - a.machine).Seconds() / secs
	if n == 0 {
		return
	}
	m[prefix+"machine_s_per_gb"] = (b.machine - a.machine).Seconds() / n * 1e9
	for role := range r.Processes {
		m[prefix+role+"_s_per_gb"] = (b.roles[role] - a.roles[role]).Seconds() / n * 1e9
	}
}

// transfers are bulk connections in the background. Bytes come in at the client (down) or the target (up).
type transfers struct {
	count  func() (int64, error)
	broken atomic.Int64
	first  chan struct{} // closed at the first byte
	dead   chan struct{} // closed when the last of them broke
	last   atomic.Pointer[error]
	wg     sync.WaitGroup
}

// startTransfers opens n bulk connections, which end with ctx.
func (r *runner) startTransfers(ctx context.Context, kind Kind, n int) (*transfers, error) {
	t := &transfers{first: make(chan struct{}), dead: make(chan struct{})}
	var got atomic.Int64
	t.count = func() (int64, error) { return got.Load(), nil }
	if kind == Up {
		count, err := r.uploaded()
		if err != nil {
			return nil, err
		}
		t.count = count
	}
	var once sync.Once
	for range n {
		t.wg.Go(func() {
			err := r.transfer(ctx, kind, func(k int) {
				got.Add(int64(k))
				once.Do(func() { close(t.first) })
			})
			if ctx.Err() == nil {
				t.last.Store(&err)
				if t.broken.Add(1) == int64(n) {
					close(t.dead)
				}
			}
		})
	}
	return t, nil
}

// transfer moves bytes on one connection until ctx ends or it breaks.
func (r *runner) transfer(ctx context.Context, kind Kind, moved func(int)) error {
	dialCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := r.dial(dialCtx, PortBulk)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte{kind[0]}); err != nil { // 'd' or 'u'
		return err
	}
	buf := make([]byte, bufSize)
	for {
		var n int
		if kind == Down {
			n, err = conn.Read(buf)
		} else {
			n, err = conn.Write(buf)
		}
		if n > 0 {
			moved(n)
		}
		if err != nil {
			return err
		}
	}
}

// uploaded asks the target, past any network, what has arrived.
func (r *runner) uploaded() (func() (int64, error), error) {
	if r.Control == "" {
		return nil, errors.New("an upload is counted at the target: its control socket is needed")
	}
	c, err := net.Dial("unix", r.Control)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReader(c)
	return func() (int64, error) {
		if _, err := c.Write([]byte{'?'}); err != nil {
			return 0, err
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(line[:len(line)-1], 10, 64)
	}, nil
}

// wait waits for the first byte and then for the warm-up.
func (t *transfers) wait(ctx context.Context, warmup float64) error {
	if warmup > 0 {
		limit := time.NewTimer(60 * time.Second)
		defer limit.Stop()
		select {
		case <-t.first:
		case <-t.dead:
			return t.broke(errors.New("every connection broke before its first byte"))
		case <-limit.C:
			return t.broke(errors.New("no byte in a minute"))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return pause(ctx, time.Duration(warmup*float64(time.Second)))
}

func (t *transfers) broke(err error) error {
	if p := t.last.Load(); p != nil {
		return errors.Join(err, *p)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *runner) bulk(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	t, err := r.startTransfers(ctx, r.Kind, max(1, r.Streams))
	if err != nil {
		cancel()
		return err
	}
	defer t.wg.Wait()
	defer cancel()
	if err := t.wait(ctx, r.Warmup); err != nil {
		return err
	}
	begin, err := r.sample(t.count)
	if err != nil {
		return err
	}
	last, at := begin.bytes, begin.at
	for end := begin.at.Add(r.seconds()); time.Now().Before(end); {
		if err := pause(ctx, min(TimelineStep, time.Until(end))); err != nil {
			return err
		}
		n, err := t.count()
		if err != nil {
			return err
		}
		now := time.Now()
		if step := now.Sub(at); step > TimelineStep/2 {
			r.res.Timeline = append(r.res.Timeline, float64(int(float64(n-last)*80/1e6/step.Seconds()))/10)
			last, at = n, now
		}
	}
	end, err := r.sample(t.count)
	if err != nil {
		return err
	}
	if end.bytes == begin.bytes {
		return t.broke(errors.New("not a byte arrived"))
	}
	r.throughput(begin, end, "")
	if late := r.res.Timeline[len(r.res.Timeline)/2:]; r.Warmup == 0 && len(late) > 0 {
		var sum float64
		for _, v := range late {
			sum += v
		}
		r.res.Metrics["late_mbps"] = sum / float64(len(late)) // without handshakes and slow start
	}
	r.res.Metrics["broken_streams"] = float64(t.broken.Load())
	return nil
}

// beside runs measure on a connection of its own with Bulk downloads in the background, if any.
func (r *runner) beside(ctx context.Context, measure func(context.Context, net.Conn) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dialCtx, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	conn, err := r.dial(dialCtx, PortEcho)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	// Once to and fro before anything is measured, so that lazily opened streams are open.
	b := []byte{'x'}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(b); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	return r.withBulk(ctx, func(ctx context.Context) error { return measure(ctx, conn) })
}

// withBulk runs measure with Bulk downloads in the background, if any.
func (r *runner) withBulk(ctx context.Context, measure func(context.Context) error) error {
	if r.Bulk == 0 {
		return measure(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t, err := r.startTransfers(ctx, Down, r.Bulk)
	if err != nil {
		return err
	}
	defer t.wg.Wait()
	defer cancel()
	if err := t.wait(ctx, max(r.Warmup, 0.1)); err != nil {
		return err
	}
	begin, err := r.sample(t.count)
	if err != nil {
		return err
	}
	if err := measure(ctx); err != nil {
		return t.broke(err)
	}
	end, err := r.sample(t.count)
	if err != nil {
		return err
	}
	r.throughput(begin, end, "bulk_")
	r.res.Metrics["broken_streams"] = float64(t.broken.Load())
	return nil
}

func (r *runner) pingPong(ctx context.Context) error {
	return r.beside(ctx, func(ctx context.Context, conn net.Conn) error {
		var rtts []time.Duration
		b := []byte{'x'}
		conn.SetDeadline(time.Now().Add(r.seconds() + 20*time.Second))
		for end := time.Now().Add(r.seconds()); time.Now().Before(end); {
			begin := time.Now()
			if _, err := conn.Write(b); err != nil {
				return err
			}
			if _, err := io.ReadFull(conn, b); err != nil {
				return err
			}
			rtts = append(rtts, time.Since(begin))
		}
		r.quantiles(rtts, "us", time.Microsecond)
		return nil
	})
}

func (r *runner) quantiles(v []time.Duration, unit string, u time.Duration) {
	m := r.res.Metrics
	m["count"] = float64(len(v))
	if len(v) == 0 {
		return
	}
	m["p50_"+unit] = float64(quantile(v, 0.50)) / float64(u)
	m["p99_"+unit] = float64(quantile(v, 0.99)) / float64(u)
	m["max_"+unit] = float64(v[len(v)-1]) / float64(u)
	m["min_"+unit] = float64(v[0]) / float64(u)
}

// keystroke types at a fixed rhythm, as a person does who does not wait for the screen.
func (r *runner) keystroke(ctx context.Context) error {
	return r.beside(ctx, func(ctx context.Context, conn net.Conn) error {
		n := int(r.seconds() / r.Interval)
		begin := time.Now()
		conn.SetDeadline(begin.Add(r.seconds() + 20*time.Second))
		typed := func(i int) time.Time { return begin.Add(time.Duration(i) * r.Interval) }
		wrote := make(chan error, 1)
		go func() {
			for i := range n {
				time.Sleep(time.Until(typed(i)))
				if _, err := conn.Write([]byte{'x'}); err != nil {
					wrote <- err
					return
				}
			}
			wrote <- nil
		}()
		delays := make([]time.Duration, 0, n)
		buf := make([]byte, 1024)
		var err error
		for len(delays) < n && err == nil {
			var k int
			k, err = conn.Read(buf)
			for range min(k, n-len(delays)) {
				delays = append(delays, time.Since(typed(len(delays))))
			}
		}
		// What never came back has waited at least until now.
		r.res.Metrics["unanswered"] = float64(n - len(delays))
		for i := len(delays); i < n; i++ {
			delays = append(delays, time.Since(typed(i)))
		}
		if err != nil && r.res.Metrics["unanswered"] == float64(n) {
			return err
		}
		conn.SetDeadline(time.Unix(1, 0))
		<-wrote
		r.quantiles(delays, "ms", time.Millisecond)
		return nil
	})
}
