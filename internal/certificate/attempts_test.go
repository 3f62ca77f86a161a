package certificate

import (
	"testing"
	"time"
)

// Who takes a process's place waits as long as that one would have before it asks the CA again.
func TestResume(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t, nil), t.TempDir()
	cfg := w.config(t, dir, newKey(t), "vpn.gw.example", "other.gw.example")
	before, after := mustNew(t, cfg), mustNew(t, cfg)
	if got := before.Failed(); got != "" {
		t.Errorf("before any attempt it tells %q", got)
	}
	for _, nothing := range []string{"", "nonsense", `[{"name":"elsewhere.example","failures":3}]`} {
		after.Resume(nothing)
	}
	if got := after.Failed(); got != "" {
		t.Errorf("of nothing it resumed %q", got)
	}
	next := time.Now().Add(time.Hour).Round(0)
	s := before.slots[1]
	s.failures, s.next, s.lastError = 3, next, "the CA said “no”"
	after.Resume(before.Failed())
	for i, want := range []slot{{}, *s} {
		if got := after.slots[i]; got.failures != want.failures || got.lastError != want.lastError {
			t.Errorf("slot %d: %d failures, %q; want %d, %q", i, got.failures, got.lastError, want.failures, want.lastError)
		}
	}
	if got := after.slots[1].next; !got.Equal(next) {
		t.Errorf("it asks again at %v, want %v", got, next)
	}
}
