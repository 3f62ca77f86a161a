package topology

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDrawn is how many addresses of a host are drawn.
const maxDrawn = 3

// Draw is a picture of the world, and below it what each firewall's link does:
//
//	client 192.0.2.10 ─┬─ isp ─[border]─ exchange ─┬─ gateway 198.51.100.10
//	dns 192.0.2.53 ────┘                           └─ site 203.0.113.80
//
//	border: delay=80ms
func (d *Description) Draw() string {
	trunk := " " + ISP + " ─"
	for _, f := range d.Firewalls {
		trunk += "[" + f.Name + "]─"
	}
	if len(d.Firewalls) == 0 {
		trunk += "─"
	}
	trunk += " " + Exchange + " "
	blank := strings.Repeat(" ", utf8.RuneCountInString(trunk))
	wide := 0
	for _, h := range d.Inside {
		wide = max(wide, utf8.RuneCountInString(h.label()))
	}
	var b strings.Builder
	for i := range max(1, len(d.Inside), len(d.Outside)) {
		left := strings.Repeat(" ", wide+2)
		if i < len(d.Inside) {
			left = d.Inside[i].label() + " "
			left += strings.Repeat("─", wide+1-utf8.RuneCountInString(d.Inside[i].label()))
		}
		left += branch(i, len(d.Inside), "─", "┬", "┤", "┘")
		right := branch(i, len(d.Outside), "─", "┬", "├", "└")
		middle := blank
		if i == 0 {
			middle = trunk
			left += "─"
			right = "─" + right
		} else {
			left += " "
			right = " " + right
		}
		if i < len(d.Outside) {
			right += "─ " + d.Outside[i].label()
		}
		b.WriteString(strings.TrimRight(left+middle+right, " ") + "\n")
	}
	if len(d.Firewalls) > 0 {
		b.WriteString("\n")
	}
	for _, f := range d.Firewalls {
		link := f.link()
		if link == "" {
			link = " as fast as it can"
		}
		fmt.Fprintf(&b, "%s:%s\n", f.Name, link)
	}
	return b.String()
}

// branch is where the i-th of n hosts meets the others; the first is on the trunk.
func branch(i, n int, alone, first, middle, last string) string {
	switch {
	case i >= n:
		return " "
	case n == 1:
		return alone
	case i == 0:
		return first
	case i < n-1:
		return middle
	}
	return last
}

func (h Host) label() string {
	label := h.Name
	for i, a := range h.Addrs {
		if i == maxDrawn {
			return fmt.Sprintf("%s and %d more", label, len(h.Addrs)-maxDrawn)
		}
		label += " " + a.String()
	}
	return label
}
