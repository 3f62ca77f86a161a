package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
)

func testRollback(t *testing.T, db Database) {
	s := db(t)
	insertKeys(t, s, key(1, "anna"))
	refused := errors.New("changed my mind")
	err := update(t, s, func(ctx context.Context, w control.Writer) error {
		if err := w.InsertKey(ctx, key(2, "otto")); err != nil {
			return err
		}
		if err := w.RevokeKey(ctx, keyID(1)); err != nil {
			return err
		}
		return refused
	})
	if err != refused {
		t.Errorf("error is %v, want fn's own", err)
	}
	same(t, "keys", allKeys(t, s), []control.AccessKey{key(1, "anna")})
	// What a failed statement leaves behind does not count either, and the same transaction does not go on half.
	err = update(t, s, func(ctx context.Context, w control.Writer) error {
		if err := w.InsertKey(ctx, key(3, "hugo")); err != nil {
			return err
		}
		return w.InsertKey(ctx, key(4, "anna"))
	})
	wantError(t, "second insert", err, control.ErrNameTaken)
	same(t, "keys", allKeys(t, s), []control.AccessKey{key(1, "anna")})
}

func testPanic(t *testing.T, db Database) {
	s := db(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not come through")
			}
		}()
		_ = update(t, s, func(ctx context.Context, w control.Writer) error {
			if err := w.InsertKey(ctx, key(1, "anna")); err != nil {
				t.Error(err)
			}
			panic("a bug")
		})
	}()
	same(t, "keys", allKeys(t, s), nil)
	insertKeys(t, s, key(2, "otto"))
}

func testViewIsOneState(t *testing.T, db Database) {
	reader, writer := db(t), db(t)
	insertKeys(t, writer, key(1, "anna"))
	mustView(t, reader, func(ctx context.Context, r control.Reader) error {
		before, err := r.Keys(ctx)
		if err != nil {
			return err
		}
		insertKeys(t, writer, key(2, "otto")) // a reader is in no writer's way
		after, err := r.Keys(ctx)
		same(t, "keys within one view", after, before)
		return err
	})
	same(t, "keys", allKeys(t, reader), []control.AccessKey{key(1, "anna"), key(2, "otto")})
}

// testUpdatesAreSerial counts in the way that loses updates wherever transactions overlap: read, then write what was
// read plus one.
func testUpdatesAreSerial(t *testing.T, db Database) {
	const handles, workers, rounds = 3, 4, 10
	insertKeys(t, db(t), key(1, "anna"))
	var wg sync.WaitGroup
	for range handles {
		s := db(t)
		for range workers {
			wg.Go(func() {
				for range rounds {
					err := update(t, s, func(ctx context.Context, w control.Writer) error {
						d := control.Device{ID: deviceID(1, 1), KeyID: keyID(1), Expires: someDay}
						switch old, err := w.Device(ctx, d.ID); {
						case err == nil:
							d.Expires = old.Expires.AddDate(0, 0, 1)
						case !errors.Is(err, control.ErrDeviceUnknown):
							return err
						}
						return w.PutDevice(ctx, d)
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	want := control.Device{ID: deviceID(1, 1), KeyID: keyID(1),
		Expires: someDay.AddDate(0, 0, handles*workers*rounds-1)}
	same(t, "the counter", devices(t, db(t), control.DeviceFilter{}), []control.Device{want})
}

func testContext(t *testing.T, db Database) {
	s, other := db(t), db(t)
	insertKeys(t, s, key(1, "anna"))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.View(done, func(control.Reader) error { t.Error("fn was called"); return nil })
	wantError(t, "view", err, context.Canceled)
	err = s.Update(done, func(control.Writer) error { t.Error("fn was called"); return nil })
	wantError(t, "update", err, context.Canceled)

	// Whoever waits for a writer, of this process or of another, stops waiting when told.
	mustUpdate(t, s, func(ctx context.Context, w control.Writer) error {
		if err := w.InsertKey(ctx, key(2, "otto")); err != nil {
			return err
		}
		for _, waiting := range []control.Store{s, other} {
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			begun := time.Now()
			err := waiting.Update(short, func(w control.Writer) error { return w.InsertKey(short, key(3, "hugo")) })
			if err == nil || short.Err() == nil {
				t.Errorf("a second writer got in beside the first: %v", err)
			}
			if waited := time.Since(begun); waited > 3*time.Second {
				t.Errorf("waited %v after the context was done", waited)
			}
			cancel()
		}
		return nil
	})
	same(t, "keys", allKeys(t, s), []control.AccessKey{key(1, "anna"), key(2, "otto")})
}

func testChanges(t *testing.T, db Database) {
	s, other := db(t), db(t)
	insertKeys(t, s, key(1, "anna"))
	changes := func() uint64 {
		t.Helper()
		n, err := s.Changes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	seen := map[uint64]string{changes(): "the beginning"}
	moved := func(what string) {
		t.Helper()
		n := changes()
		if before, old := seen[n]; old {
			t.Errorf("the counter after %s is that of %s", what, before)
		}
		seen[n] = what
	}
	still := func(what string) {
		t.Helper()
		before := changes()
		for range 3 {
			if changes() != before {
				t.Fatalf("the counter moved by %s", what)
			}
		}
	}
	still("asking")
	allKeys(t, s)
	still("reading")
	insertKeys(t, s, key(2, "otto"))
	moved("an insert by this handle")
	putDevices(t, other, control.Device{ID: deviceID(1, 1), KeyID: keyID(1), Expires: someDay})
	moved("an insert by another handle")
	mustUpdate(t, other, func(ctx context.Context, w control.Writer) error { return w.RevokeKey(ctx, keyID(1)) })
	moved("a revocation by another handle")
	mustUpdate(t, s, func(ctx context.Context, w control.Writer) error {
		_, err := w.DeleteDevices(ctx, someDay.AddDate(1, 0, 0))
		return err
	})
	moved("a deletion")

	// Asked by many while others write, it never goes backwards to a state it has left.
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for !stop.Load() {
				if _, err := s.Changes(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range byte(20) {
		insertKeys(t, other, key(100+n, "many "+string('a'+rune(n))))
		moved("one of many inserts")
	}
	stop.Store(true)
	wg.Wait()
}
