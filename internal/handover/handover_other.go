//go:build !linux

package handover

import (
	"context"
	"os"
)

func (p *Process) inherit(string) error { return ErrNotHere }

func (p *Process) tellReady() error { return ErrNotHere }

// Successor would start one; here it cannot.
func (p *Process) Successor(context.Context, *os.File) (*Successor, error) { return nil, ErrNotHere }

// Again would start one, too.
func (p *Process) Again(context.Context, string, *os.File) (*Successor, error) {
	return nil, ErrNotHere
}

// Follow has nothing to wait for here.
func (p *Process) Follow(bool) error { return nil }

// Waits reports that this process has its own work.
func Waits() (code int, yes bool) { return 0, false }
