package client

import "time"

func init() { askWithin = time.Millisecond }
