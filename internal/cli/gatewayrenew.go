package cli

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/godwit-vpn/godwit/internal/handover"
)

// What a process has freed it still holds: pages of ended sessions, stacks, the state of TLS. Nothing in it can be sure to
// find all of that, but the kernel takes everything when the process goes. So a gateway forgets by starting anew, as in
// an upgrade, with the program that runs already.
//
//	somebody passed the door ── the last one has gone ── renewAfter ──> Again ──┬─> a fresh process serves
//	                                    ^                                       └─> failed: the same in a while
//	                                    └── somebody comes
const (
	// renewAfter is how long nobody must have been there. With what a drain takes for visitors of the website it is well
	// within a minute; and a client that comes back after a short while, as one that is restarted does, finds the same
	// process.
	renewAfter = 30 * time.Second
	renewLook  = 2 * time.Second

	// After a failure, which the settings are likely to be the cause of, it is tried again in twice the time.
	renewRetry    = 5 * time.Minute
	maxRenewRetry = time.Hour
)

// renewWhenIdle replaces this process by a fresh one once nobody has been there for a while, and returns then or when
// ctx is done. What goes well is not logged: it would tell, for ever, when the last session ended.
func (u *upgrade) renewWhenIdle(ctx context.Context, idle func() (since time.Time, ok bool), memo func() string) {
	again := func() error {
		_, err := u.replace(func(ctx context.Context, lock *os.File) (*handover.Successor, error) {
			return u.self.Again(ctx, memo(), lock)
		})
		return err
	}
	renewWhenIdle(ctx, idle, again, func(err error) {
		u.log.Warn("no fresh process could take this one's place, which goes on and tries again; until then what ended "+
			"sessions left is in its memory", "err", err)
	})
}

func renewWhenIdle(ctx context.Context, idle func() (time.Time, bool), again func() error, failed func(error)) {
	wait, retry := renewLook, renewRetry
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait = renewLook
		if since, ok := idle(); ok && time.Since(since) >= renewAfter {
			err := again()
			if err == nil || errors.Is(err, errReplaced) || errors.Is(err, handover.ErrNotHere) || ctx.Err() != nil {
				return
			}
			if retry == renewRetry { // once is enough
				failed(err)
			}
			wait, retry = retry, min(2*retry, maxRenewRetry)
		}
		timer.Reset(wait)
	}
}
