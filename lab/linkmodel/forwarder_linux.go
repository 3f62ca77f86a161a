package linkmodel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Forwarder carries frames between two interfaces as its Spec says.
//
// Each direction is one thread that owns a packet socket on either side. Received frames are read from a ring shared
// with the kernel, with the kernel's time of arrival, so that a late wake-up does not lengthen the delay; due frames
// leave in batches.
//
// A Box is called on the thread of the frame's direction. What it emits into the other direction wakes that one's thread.
type Forwarder struct {
	// Realtime, set before Run, asks the kernel to let the two threads run before any ordinary one, so that a busy
	// machine does not stretch the path. It needs root or a RLIMIT_RTPRIO of 1; Stats tells whether it was granted.
	Realtime bool
	// Box, set before Run, sees every frame that arrives and decides what goes on. Nil lets all go on.
	Box Box
	// Tap, set before Run, sees every frame that passes an interface; nil looks at none.
	Tap Tap

	forward, backward *direction
	running           atomic.Bool

	// boxMu is held while Box is called, and taken before a direction's mu, never after it.
	boxMu  sync.Mutex
	boxNow int64 // what Box was told last
}

// Open prepares to carry frames between interfaces a and b of the calling thread's network namespace. It needs
// CAP_NET_RAW there. Both interfaces must be up. The caller must Run or Close the result.
func Open(a, b string, spec Spec) (*Forwarder, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	fw, err := openDirection(a, b, newLine(spec.Forward, spec.Seed, 0), grain(spec.Forward))
	if err != nil {
		return nil, fmt.Errorf("link %s to %s: %w", a, b, err)
	}
	bw, err := openDirection(b, a, newLine(spec.Backward, spec.Seed, 1), grain(spec.Backward))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("link %s to %s: %w", b, a, err), fw.close())
	}
	fw.back, bw.back = bw, fw
	return &Forwarder{forward: fw, backward: bw}, nil
}

// Run carries frames until ctx ends and returns nil then; it closes the Forwarder. It can be called once.
func (f *Forwarder) Run(ctx context.Context) error {
	if f.running.Swap(true) {
		return errors.New("link: Run called twice")
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	begin := time.Now()
	for i, d := range []*direction{f.forward, f.backward} {
		d.begin = begin
		deliver := d.deliver
		if f.Box != nil {
			deliver = f.boxed(i == 0)
		}
		if f.Tap != nil {
			d.tap = func(at int64, arriving bool, frame []byte) {
				f.Tap(begin.Add(time.Duration(at)), arriving == (i == 0), arriving, frame)
			}
		}
		wg.Go(func() {
			defer cancel()
			errs[i] = d.run(ctx, f.Realtime, deliver)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// boxed returns what is done with an arrived frame of a direction when there is a Box.
func (f *Forwarder) boxed(forward bool) func(arrived int64, frame []byte) {
	emit := func(forward bool, after time.Duration, frame []byte) {
		d := f.backward
		if forward {
			d = f.forward
		}
		d.emit(f.boxNow, after, frame)
	}
	return func(arrived int64, frame []byte) {
		f.boxMu.Lock()
		defer f.boxMu.Unlock()
		// A frame of one direction may be read after one of the other that arrived later.
		f.boxNow = max(f.boxNow, arrived)
		f.Box.Frame(time.Duration(f.boxNow), forward, frame, emit)
	}
}

// Set changes the path for frames that arrive from now on; those on their way are not touched. The Seed is not used.
func (f *Forwarder) Set(spec Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	f.forward.set(spec.Forward)
	f.backward.set(spec.Backward)
	return nil
}

// Stats returns the counters of both directions. It may be called at any time, also after Run.
func (f *Forwarder) Stats() (forward, backward Stats) {
	return f.forward.snapshot(), f.backward.snapshot()
}

// Close frees the sockets of a Forwarder that is not running.
func (f *Forwarder) Close() error { return errors.Join(f.forward.close(), f.backward.close()) }
