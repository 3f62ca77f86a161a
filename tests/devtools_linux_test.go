package e2e

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/lab/devtools"
)

// browse starts Chromium on the client's machine.
func (w *world) browse(args ...string) *devtools.Browser {
	w.t.Helper()
	cmd := w.client.command("chromium", devtools.Args(filepath.Join(w.dir, "browser"), args...)...)
	var p *process
	b, err := devtools.Start(cmd, func(cmd *exec.Cmd) error {
		p = w.start("chromium", cmd)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = b.Close()
		p.stop(syscall.SIGTERM, 20*time.Second)
	})
	return b
}
