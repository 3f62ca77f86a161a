package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A gateway is replaced half a minute after everybody has gone, and not before.
func TestRenewWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		// Nobody for ten minutes, somebody for ten, nobody for twenty seconds, somebody until half an hour, nobody.
		idle := func() (time.Time, bool) {
			switch now := time.Since(began); {
			case now >= 30*time.Minute:
				return began.Add(30 * time.Minute), true
			case now >= 20*time.Minute:
				return began.Add(20 * time.Minute), now < 20*time.Minute+20*time.Second
			}
			return time.Time{}, false
		}
		var when time.Duration
		renewWhenIdle(t.Context(), idle, func() error {
			when = time.Since(began)
			return nil
		}, func(err error) { t.Error(err) })
		if after := when - 30*time.Minute; after < renewAfter || after > renewAfter+renewLook {
			t.Errorf("replaced %v after the last one went, want %v", after, renewAfter)
		}
	})
}

// One that cannot be replaced goes on, says so once, and tries again more and more rarely.
func TestRenewFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		left, tries, said := time.Now(), 0, 0
		renewWhenIdle(ctx, func() (time.Time, bool) { return left, true }, func() error {
			tries++
			return errors.New("no")
		}, func(error) { said++ })
		if said != 1 || tries < 24 || tries > 30 {
			t.Errorf("in a day it was tried %d times and told %d times", tries, said)
		}
	})
}
