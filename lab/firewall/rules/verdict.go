package rules

import "github.com/godwit-vpn/godwit/lab/firewall"

// verdict ends a flow's examination by a rule that gives a score: what is found is done, or if there is nothing to do, told;
// and what is not is told if that is wanted.
func verdict(found bool, then *Then, scores bool, f *firewall.Flow, do *firewall.Action, detail string, args ...any) {
	do.Done()
	switch {
	case found && then != nil:
		then.do(f, do, detail, args...)
	case found:
		do.Scored(detail, args...)
	case scores:
		do.Cleared(detail, args...)
	}
}
