package client

import (
	"time"

	"golang.org/x/sys/unix"
)

// asleep returns what tells for how long the machine has slept since it was started. It goes by no clock that can be set.
func asleep() func() time.Duration {
	return func() time.Duration {
		var all, awake unix.Timespec
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
			return 0
		}
		return time.Duration(all.Nano() - awake.Nano())
	}
}
