package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/bench/internal/load"
	"github.com/godwit-vpn/godwit/bench/internal/result"
	"github.com/godwit-vpn/godwit/bench/topology"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/peer"
)

// Config is a whole bench.
type Config struct {
	Suite      string
	Conditions []Condition
	Peers      []peer.Entry
	Infos      map[string]peer.Info // of Peers, by name
	Skipped    map[string]string    // peers that Prepare gave up on, and why
	Tools      *peer.Tools
	Runs       int
	// Parallel is how many peers are measured at once where the path is at most 100 Mbit/s.
	Parallel int
	Out      string // directory
	Sandbox  string // how it is isolated, for the report
	Progress io.Writer
}

// Run measures. It is called inside netns.Sandbox. When ctx ends it stops what runs, keeps what it has, and returns
// the context's error.
func Run(ctx context.Context, cfg Config) error {
	b := &bench{Config: cfg, begin: time.Now()}
	if b.Skipped == nil {
		b.Skipped = make(map[string]string)
	}
	if err := netns.SetHosts(targetName, topology.TargetAddr); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return err
	}
	for _, c := range b.Conditions {
		b.total += c.Estimate() * time.Duration(len(b.Peers)*b.Runs) / time.Duration(b.width(c))
		b.count += len(b.Peers) * b.Runs
	}
	b.printf("%d measurements: %d run(s), %d condition(s), peers %s; about %v\n", b.count, b.Runs, len(b.Conditions),
		strings.Join(names(b.Peers), ", "), b.total.Round(time.Minute))
	for n := range b.Runs {
		if err := b.run(ctx, n+1); err != nil {
			return err
		}
	}
	return nil
}

// targetName is what the load asks for, as applications do; whoever is at the far end of a tunnel looks it up.
const targetName = "target.example"

type bench struct {
	Config
	begin time.Time
	total time.Duration // estimated
	count int           // of measurements

	mu   sync.Mutex // guards Progress and what follows
	done int
	// spent is the estimated time of what is done, to scale what remains.
	spent time.Duration
}

func names(entries []peer.Entry) (n []string) {
	for _, e := range entries {
		n = append(n, e.Name)
	}
	return n
}

func (b *bench) printf(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(b.Progress, format, args...)
}

// check drops peers and conditions that cannot be had here, and says so.
func (b *bench) check() error {
	b.Peers = slices.DeleteFunc(slices.Clone(b.Peers), func(e peer.Entry) bool {
		err := e.Check()
		if err != nil {
			b.Skipped[e.Name] = err.Error()
		}
		return err != nil
	})
	verdict := make(map[string]error)
	b.Conditions = slices.DeleteFunc(slices.Clone(b.Conditions), func(c Condition) bool {
		cc := c.Net.CC
		if _, ok := verdict[cc]; !ok {
			verdict[cc] = tryCC(cc)
		}
		if verdict[cc] != nil {
			b.Skipped[c.Name] = verdict[cc].Error()
		}
		return verdict[cc] != nil
	})
	for name, why := range b.Skipped {
		b.printf("MISSING %s: %s\n", name, why)
	}
	if len(b.Peers) == 0 || len(b.Conditions) == 0 {
		return errors.New("nothing left to measure")
	}
	return nil
}

// tryCC finds out whether a congestion control can be set, and is what sockets then use.
func tryCC(cc string) error {
	n, err := topology.New(topology.Config{CC: cc})
	if err != nil {
		return err
	}
	defer n.Close()
	_, err = n.CheckCC()
	return err
}

// width is how many peers may share the machine under a condition.
func (b *bench) width(c Condition) int {
	if c.Link != nil && c.Link.Rate <= 100*mbit {
		return max(1, min(b.Parallel, len(b.Peers)))
	}
	return 1
}

func (b *bench) run(ctx context.Context, number int) error {
	r := &result.Run{
		Schema: result.Schema, Number: number, Suite: b.Suite, Started: time.Now().UTC(),
		Machine: machine(b.Sandbox), Peers: make(map[string]result.Peer), Skipped: b.Skipped,
	}
	for _, e := range b.Peers {
		r.Peers[e.Name] = result.Peer(b.Infos[e.Name])
	}
	for _, c := range b.Conditions {
		r.Conditions = append(r.Conditions, result.Condition{Name: c.Name, About: c.About})
	}
	for _, c := range b.Conditions {
		// Each run begins with another peer, so that none is always first.
		order := slices.Concat(b.Peers[(number-1)%len(b.Peers):], b.Peers[:(number-1)%len(b.Peers)])
		for group := range slices.Chunk(order, b.width(c)) {
			b.group(ctx, r, c, group)
			if err := r.Write(b.Out); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	r.Finished = time.Now().UTC()
	return r.Write(b.Out)
}

// group measures several peers at once.
func (b *bench) group(ctx context.Context, r *result.Run, c Condition, group []peer.Entry) {
	others := othersBusy(ctx)
	var wg sync.WaitGroup
	for _, e := range group {
		m := &measurement{
			cond: c, peer: e.New(b.Tools), kind: e,
			// The same frames are lost to every peer's first packets, and others in the next run.
			seed: uint64(r.Number),
			dir:  filepath.Join("/run/bench", e.Name),
			res:  &result.Measurement{Condition: c.Name, Peer: e.Name, OthersBusy: others},
		}
		var said []string
		m.say = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		r.Measurements = append(r.Measurements, m.res)
		wg.Go(func() {
			m.run(ctx)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.done++
			b.spent += c.Estimate() / time.Duration(b.width(c))
			left := time.Duration(float64(time.Since(b.begin)) / float64(b.spent) * float64(max(0, b.total-b.spent)))
			fmt.Fprintf(b.Progress, "[%d/%d, about %v left] run %d %s %s: %s\n", b.done, b.count,
				left.Round(10*time.Second), r.Number, c.Name, e.Name, strings.Join(said, ", "))
		})
	}
	wg.Wait()
}

// othersBusy is how many cores are busy while the bench does nothing.
func othersBusy(ctx context.Context) float64 {
	begin, at := load.MachineBusy(), time.Now()
	select {
	case <-time.After(300 * time.Millisecond):
	case <-ctx.Done():
	}
	return (load.MachineBusy() - begin).Seconds() / time.Since(at).Seconds()
}

func machine(sandbox string) result.Machine {
	m := result.Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Sandbox: sandbox, CPU: "unknown CPU"}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				m.CPU = strings.TrimSpace(v)
				break
			}
		}
	}
	return m
}
