package wire

import (
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/flow"
)

func TestBrowserAsk(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]BrowserAsk{
		"/browser/chrome/1795651200":             {"chrome", 1795651200},
		"/browser/firefox/0":                     {"firefox", 0},
		"/browser/abcdefghijklmnop/999999999999": {"abcdefghijklmnop", 999999999999},
	} {
		if a, ok := ParseBrowserAsk(host); !ok || a != want || a.Host() != host {
			t.Errorf("%s: %+v, %v", host, a, ok)
		}
		// What an older gateway does with it, and what an application is told that asks for it.
		if _, err := flow.NewTarget(host, 0); flow.CodeOf(err) != flow.CodeBadTarget {
			t.Errorf("%s may be dialled: %v", host, err)
		}
	}
	for _, host := range []string{"", "/", "/browser", "/browser/", "/browser//1", "/browser/chrome", "/browser/chrome/",
		"/browser/chrome/01", "/browser/chrome/-1", "/browser/chrome/+1", "/browser/chrome/1/", "/browser/Chrome/1",
		"/browser/chrome/1000000000000", "/browser/../1", "/browser/abcdefghijklmnopq/1", "/other/chrome/1",
		"browser/chrome/1", "/browser/chrome/1 ", "/browser/chr.me/1", strings.Repeat("/", 250)} {
		if a, ok := ParseBrowserAsk(host); ok {
			t.Errorf("%q was taken for %+v", host, a)
		}
	}
}

// FuzzBrowserAsk wants that what is taken for a question is one to the letter, and none that could be dialled.
func FuzzBrowserAsk(f *testing.F) {
	f.Add("/browser/chrome/1795651200")
	f.Add("/browser/x/0")
	f.Add("example.org")
	f.Fuzz(func(t *testing.T, host string) {
		a, ok := ParseBrowserAsk(host)
		if !ok {
			return
		}
		if a.Host() != host || len(host) > flow.MaxHost || a.Date < 0 || strings.ContainsAny(a.Family, "./\\") {
			t.Errorf("%q was taken for %+v", host, a)
		}
		if _, err := flow.NewTarget(host, 443); err == nil {
			t.Errorf("%q can be dialled", host)
		}
	})
}
