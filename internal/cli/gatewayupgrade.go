package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/handover"
	"github.com/godwit-vpn/godwit/internal/local"
)

func (a *app) gatewayUpgradeCmd() *cobra.Command {
	var f gatewayFlags
	cmd := &cobra.Command{
		Use: "upgrade", Short: "replace the running gateway by the installed program, without an interruption", Args: noArgs,
		Long: `Has the running gateway start the program that now lies where it was started from,
with the same arguments, on the same sockets: nobody is refused meanwhile. The new
process reads the settings again. When it serves, the old one sends clients there
for whatever is new and is done when its open streams have ended, at the latest
after drain_minutes of the settings (60). If the new one does not start, the old
one goes on, and this says why. The process that was started first stays, and waits.

SIGHUP does the same, unless the gateway runs in a terminal.`,
		Example: "  sudo install -m 755 godwit /usr/local/bin/godwit && sudo godwit gateway upgrade",
		RunE: func(cmd *cobra.Command, _ []string) error {
			paths, err := a.gatewayPaths(f.state, f.settings)
			if err != nil {
				return err
			}
			p, err := findGateway(paths)
			if err != nil {
				return err
			}
			pid, err := p.Upgrade(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s process %d serves now; process %d is done when its streams have ended\n",
				a.stdout.paint(good, "✓"), pid, p.PID)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

// upgrade has another process take this one's place, once.
type upgrade struct {
	ctx      context.Context // ends when this process is to: a successor that is not ready then must not stay
	self     *handover.Process
	inst     *local.Instance
	drain    func()
	stop     func()
	log      *slog.Logger
	stopping func() bool // keeps the end of this process from being told to it

	mu   sync.Mutex // held while a successor starts
	done bool
	lost error // how the successor ended, if this process ended because of it
}

var errReplaced = errors.New("another process has taken this one's place already")

// do starts the program that is installed now as a successor, and hands over to it.
func (u *upgrade) do() (pid int, err error) {
	if pid, err = u.replace(u.self.Successor); errors.Is(err, errReplaced) {
		return 0, err
	} else if err != nil {
		u.log.Error("the upgrade failed", "err", err)
		return 0, err
	}
	u.log.Info("another process serves now: this one is done with its last stream", "pid", pid)
	return pid, nil
}

// replace hands over to what start starts.
func (u *upgrade) replace(start func(context.Context, *os.File) (*handover.Successor, error)) (pid int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return 0, errReplaced
	}
	s, err := start(u.ctx, u.inst.Lock())
	if err != nil {
		return 0, err
	}
	u.done = true
	u.stopping()
	u.inst.HandOver()
	u.drain()
	go func() {
		// Whoever waits for this process, to start another one, is told that nobody serves.
		if err := <-s.Ended; err != nil {
			u.mu.Lock()
			u.lost = fmt.Errorf("process %d, which serves instead of this one, has ended: %w", s.PID, err)
			u.mu.Unlock()
			u.stop()
		}
	}()
	return s.PID, nil
}

// failed waits for an upgrade that is under way, and returns why this process ended early, if it did.
func (u *upgrade) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lost
}
