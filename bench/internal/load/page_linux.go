package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/lab/devtools"
)

// page has a browser load the page again and again, each time as someone who has never been there. The first time, which warms
// the browser up, does not count.
func (r *runner) page(ctx context.Context) error {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return errors.New("needs chromium: apt-get install chromium")
	}
	dir, err := os.MkdirTemp(filepath.Dir(r.Control), "browser-") // in memory
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, path, devtools.Args(dir)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	b, err := devtools.Start(cmd, (*exec.Cmd).Start)
	if err != nil {
		return err
	}
	defer cmd.Wait()
	defer b.Close()
	proxy := ""
	if r.Proxy != "" {
		proxy = "socks5://" + r.Proxy
	}
	var all []time.Duration
	failed, last := 0, error(nil)
	for n := 0; len(all)+failed < r.Count; n++ {
		took, err := loadOnce(ctx, b, proxy, fmt.Sprintf("l%dx%x", n, time.Now().UnixNano()))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case n == 0:
		case err != nil:
			failed, last = failed+1, err
		default:
			all = append(all, took)
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("no page: %w", last)
	}
	r.res.Metrics["failed"] = float64(failed)
	r.quantiles(all, "s", time.Second)
	return nil
}

// settled is how long what a page asks for by itself may take once it is loaded.
const settled = 20 * time.Second

// loadOnce loads the page, and says when its load event was, from the navigation's start. That all of it came is seen to.
func loadOnce(ctx context.Context, b *devtools.Browser, proxy, load string) (took time.Duration, err error) {
	objects, size := newSite(load), 0
	for _, o := range objects {
		size += o.size
	}
	w, err := b.Window(proxy)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	if err := w.Open("https://" + load + "." + pageHosts[0] + "." + pageZone + "/"); err != nil {
		return 0, err
	}
	for end := time.Now().Add(settled); ; {
		var found struct {
			Load           float64 // ms
			Objects, Bytes int
		}
		const script = `(() => {
			const n = performance.getEntriesByType("navigation")[0], all = performance.getEntriesByType("resource");
			return {load: n.loadEventStart, objects: all.length + 1, bytes: all.reduce((s, e) => s + e.encodedBodySize, n.encodedBodySize)};
		})()`
		if err := w.Evaluate(script, &found); err != nil {
			return 0, err
		}
		if found.Objects == len(objects) && found.Bytes == size {
			return time.Duration(found.Load * float64(time.Millisecond)), nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("%d of %d objects and %d of %d bytes came", found.Objects, len(objects), found.Bytes, size)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
