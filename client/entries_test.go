package client

import (
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/session"
)

func TestEntries(t *testing.T) {
	t.Parallel()
	now := time.Now()
	e := newEntries([]accesskey.Endpoint{{Host: "a"}, {Host: "x", Transport: "other"}, {Host: "b"}, {Host: "c", Transport: "https"}}, "https")
	if len(e.list) != 3 {
		t.Fatalf("%d entries", len(e.list))
	}
	want := func(what string, i int, links ...session.LinkStatus) {
		t.Helper()
		if got := e.next(links, now); got != i {
			t.Errorf("%s: %d, want %d", what, got, i)
		}
	}
	want("at first", 0)
	e.of[1], e.of[2], e.of[3] = 0, 1, 2
	on := func(id uint64, suspected bool) session.LinkStatus {
		return session.LinkStatus{ID: id, Suspected: suspected}
	}
	want("a second link", 1, on(1, false))
	want("a third", 2, on(1, false), on(2, false))
	want("a link of another session", 0, on(9, false))
	want("the first is silent", 1, on(1, true))
	want("two are silent", 2, on(1, true), on(2, true))
	e.fail(0, now)
	want("the first failed", 1)
	want("the first failed, and the second carries one", 2, on(2, false))
	e.fail(1, now)
	e.fail(2, now)
	want("all failed", 0)
	e.fail(0, now)
	want("the first failed twice", 1)
	if p, q := e.patience(1, now), e.patience(0, now); p != 2*firstPatience || q != 4*firstPatience {
		t.Errorf("patience %v and %v", p, q)
	}
	e.work(0)
	want("the first works again", 0)
	e.fail(0, now.Add(-forgetFailures-time.Second))
	want("it failed long ago", 0)
	e.fail(0, now)
	e.forget()
	want("on another network", 0)
	if one := newEntries([]accesskey.Endpoint{{Host: "a"}}, "https"); one.patience(0, now) != 0 || one.next(nil, now) != 0 {
		t.Error("a single entry is hurried")
	}
}
