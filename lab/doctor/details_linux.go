package doctor

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/godwit-vpn/godwit/internal/doctor"
)

var number = regexp.MustCompile(`(rate|packets) = (\d+)`)

// drawn is a number in a rule's text.
func drawn(rules, field string) float64 {
	for _, m := range number.FindAllStringSubmatch(rules, -1) {
		if m[1] == field {
			n, _ := strconv.ParseFloat(m[2], 64)
			return n
		}
	}
	return 0
}

// scope is what is blocked after a cut.
func scope(rules string, f *doctor.Finding) string {
	want := ""
	switch {
	case strings.Contains(rules, `block = "3-tuple"`):
		want = "server-port"
	case strings.Contains(rules, `block = "connection"`):
		want = "connection"
	}
	if f.Scope != want {
		return fmt.Sprintf("blocks %q after it, not %q", want, f.Scope)
	}
	return ""
}

// within compares a number with a drawn one: what is measured is what TCP makes of it, not what the box lets pass.
func within(what string, got, want, least, most float64) string {
	if got < want*least || got > want*most {
		return fmt.Sprintf("%s %.3g, not %.3g", what, want, got)
	}
	return ""
}

func throttled(rules string, f *doctor.Finding) string {
	return within("rate", f.Rate, drawn(rules, "rate"), 0.5, 1.2)
}

func policed(rules string, f *doctor.Finding) string {
	return within("rate", f.Rate, drawn(rules, "rate"), 0.7, 1.3)
}

// frozen: packets of both directions and all sizes, of which the doctor sees bytes of one.
func frozen(rules string, f *doctor.Finding) string {
	return within("KB", float64(f.Bytes)/1000, drawn(rules, "packets")*0.9, 0.15, 1.7)
}

func injectors(rules string, f *doctor.Finding) string {
	_, list, _ := strings.Cut(rules, "injectors = [")
	list, _, _ = strings.Cut(list, "]")
	want, path := 1+strings.Count(list, ","), "on-path"
	if strings.Contains(rules, "drop = true") {
		path = "in-path"
	}
	if f.Injectors != want || f.Path != path {
		return fmt.Sprintf("%d injectors, %s, not %d, %s", want, path, f.Injectors, f.Path)
	}
	return ""
}
