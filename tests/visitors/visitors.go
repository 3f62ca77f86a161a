// Package visitors tells what visitors of a website look like to a firewall: it records them as they come, and says where
// one differs from another.
package visitors

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

// A Visitor is what was seen of one kind of visitor.
type Visitor struct {
	Name         string
	Hellos       []*clienthello.Hello
	First, Again *Conn // the connection of a first visit, and of one with the cookies of the first
}

// Orders are the different orders of extensions in the visitor's hellos.
func (v *Visitor) Orders() map[string]bool {
	found := map[string]bool{}
	for _, hello := range v.Hellos {
		found[clienthello.Codes(hello.Order())] = true
	}
	return found
}

// FieldDifferences says where two descriptions differ.
func FieldDifferences(want, got []clienthello.Field, who, other string) (differences []string) {
	value := func(fields []clienthello.Field, name string) string {
		for _, f := range fields {
			if f.Name == name {
				return strconv.Quote(f.Value)
			}
		}
		return "none"
	}
	var names []string
	for _, f := range slices.Concat(want, got) {
		if !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	for _, name := range names {
		if a, b := value(want, name), value(got, name); a != b {
			differences = append(differences, fmt.Sprintf("%s:\n    %s sends %s\n    %s sends %s", name, who, a, other, b))
		}
	}
	return differences
}
