package client

import (
	"sync/atomic"
	"time"
)

func init() { askWithin = time.Millisecond }

// SetAsleep has a client that does not run yet think that the machine has slept for so many nanoseconds.
func SetAsleep(c *Client) *atomic.Int64 {
	var n atomic.Int64
	c.asleep = func() time.Duration { return time.Duration(n.Load()) }
	return &n
}
