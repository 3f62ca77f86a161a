package peer

import "context"

// direct is no peer at all: what the path itself can do.
type direct struct{}

var directEntry = Entry{
	Name: "direct",
	Prepare: func(context.Context, *Tools) (Info, error) {
		return Info{Version: "-", Settings: "routed, no address translation"}, nil
	},
	Check: nothingToCheck,
	New:   func(*Tools) Peer { return direct{} },
}

func nothingToCheck() error { return nil }

func (direct) Proxy() string { return "" }

func (direct) Gateway(context.Context, *Site) (*Process, error) { return nil, nil }

func (direct) Client(context.Context, *Site) (*Process, error) { return nil, nil }
