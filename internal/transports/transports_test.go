package transports

import (
	"slices"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

func TestNames(t *testing.T) {
	var names []string
	for _, d := range Dialers(Options{}) {
		names = append(names, d.Transport())
	}
	if !slices.Equal(names, Names()) || names[0] != Default {
		t.Errorf("the dialers are %v, the names %v, the default %s", names, Names(), Default)
	}
}

// looker is a dialer that can look like one browser or another.
type looker struct {
	transport.Dialer
	like *chrome.Browser
}

func (l *looker) LookLike(b *chrome.Browser) { l.like = b }

func TestLookLike(t *testing.T) {
	one, fox := new(looker), chrome.BuiltIn(chrome.FamilyFirefox)
	all := Dialers(Options{})
	if LookLike(slices.Values(append(all, one)), fox); one.like != fox {
		t.Errorf("looks like %v", one.like)
	}
	var names []string
	for _, d := range all {
		if _, ok := d.(interface{ LookLike(*chrome.Browser) }); ok {
			names = append(names, d.Transport())
		}
	}
	if want := []string{"https", "relay"}; !slices.Equal(names, want) {
		t.Errorf("%v can look like another browser, want %v, as docs/chrome.md has it", names, want)
	}
}
