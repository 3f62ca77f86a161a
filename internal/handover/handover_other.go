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
