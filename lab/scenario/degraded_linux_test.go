package scenario

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/survival"
)

// TestAdd makes a cell's verdict of its runs'.
func TestAdd(t *testing.T) {
	t.Parallel()
	const passes, slow, blocked, none = survival.Passes, survival.Degraded, survival.Blocked, survival.None
	for _, c := range []struct {
		runs []survival.Verdict
		want survival.Verdict
	}{
		{[]survival.Verdict{passes}, passes},
		{[]survival.Verdict{slow}, slow},
		{[]survival.Verdict{blocked}, blocked},
		{[]survival.Verdict{none}, none},
		{[]survival.Verdict{none, blocked, blocked}, blocked},
		{[]survival.Verdict{passes, blocked}, slow},
		{[]survival.Verdict{blocked, passes}, slow},
		{[]survival.Verdict{slow, blocked}, slow},
		{[]survival.Verdict{blocked, slow}, slow},
		{[]survival.Verdict{blocked, passes, blocked}, slow},
	} {
		cell := survival.Cell{Verdict: none, Rules: map[string]int{}}
		for _, v := range c.runs {
			add(&cell, run{verdict: v})
		}
		if cell.Verdict != c.want {
			t.Errorf("%v: %s, want %s", c.runs, cell.Verdict, c.want)
		}
	}
}
