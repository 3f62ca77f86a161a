//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// onHangUp upgrades at SIGHUP, as service managers' reload sends it, until the function it returns is called. Where
// there is a terminal the signal means its end, and ends the gateway as ever.
func (u *upgrade) onHangUp() (stop func()) {
	if tty, err := os.Open("/dev/tty"); err == nil {
		tty.Close()
		return func() {}
	}
	if signal.Ignored(syscall.SIGHUP) {
		return func() {}
	}
	heard := make(chan os.Signal, 1) // signal.Notify does not wait, and one upgrade is enough for many signals
	signal.Notify(heard, syscall.SIGHUP)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-heard:
				u.do()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(heard)
		close(done)
		<-ended
	}
}
