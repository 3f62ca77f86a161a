package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/godwit-vpn/godwit/internal/doctor"
)

// Table writes what was named of what, a row for each case, as Markdown.
func Table(w io.Writer, cases []Case, all []Result) {
	fmt.Fprintln(w, "| network | runs | right | missed | wrong name | named, of so many runs | details right |\n|---|---:|---:|---:|---:|---|---:|")
	var sum struct{ runs, right, missed, wrong, detailed, details int }
	var cells, wrongCells int
	for _, c := range cases {
		var runs, right, missed, wrong, detailed, details int
		named := map[doctor.Kind]int{}
		for _, r := range all {
			if r.Case != c.Name || r.Err != nil || r.Report == nil {
				continue
			}
			runs++
			if r.Right() {
				right++
			}
			if len(r.Missed) > 0 {
				missed++
			}
			if len(r.Wrong) > 0 {
				wrong++
			}
			if r.Detailed {
				detailed++
				if r.Detail == "" {
					details++
				}
			}
			for _, k := range r.Found {
				named[k]++
			}
		}
		if runs == 0 {
			continue
		}
		cells++
		if wrong > 0 {
			wrongCells++
		}
		var kinds []doctor.Kind
		for k := range named {
			kinds = append(kinds, k)
		}
		slices.SortFunc(kinds, func(a, b doctor.Kind) int {
			if named[a] != named[b] {
				return named[b] - named[a]
			}
			return strings.Compare(string(a), string(b))
		})
		var list []string
		for _, k := range kinds {
			list = append(list, fmt.Sprintf("%s %d", k, named[k]))
		}
		if len(list) == 0 {
			list = []string{"nothing"}
		}
		detail := ""
		if detailed > 0 {
			detail = fmt.Sprintf("%d of %d", details, detailed)
		}
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %s | %s |\n", c.Name, runs, right, missed, wrong, strings.Join(list, ", "), detail)
		sum.runs, sum.right, sum.missed, sum.wrong = sum.runs+runs, sum.right+right, sum.missed+missed, sum.wrong+wrong
		sum.detailed, sum.details = sum.detailed+detailed, sum.details+details
	}
	fmt.Fprintf(w, "| **all %d** | %d | %d | %d | %d | | %d of %d |\n", cells, sum.runs, sum.right, sum.missed, sum.wrong, sum.details, sum.detailed)
}
