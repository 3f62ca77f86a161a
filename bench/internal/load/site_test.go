package load

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page is what its drawing says: every object but itself is asked for once, by one that is there.
func TestSite(t *testing.T) {
	t.Parallel()
	objects, target := newSite("l"), netip.MustParseAddr("10.77.3.2")
	if len(objects) != 100 {
		t.Errorf("%d objects", len(objects))
	}
	url := regexp.MustCompile(`https://l\.([a-z]+)\.page\.example(/[^\s'")>]*)`)
	asked, hosts := make(map[string]int), make(map[string]bool)
	var sizes []int
	total := 0
	for at, o := range objects {
		host, _, _ := strings.Cut(at, "/")
		hosts[host] = true
		sizes, total = append(sizes, o.size), total+o.size
		if o.size < len(o.text)+len(o.end) {
			t.Errorf("%s: text of %d bytes in %d", at, len(o.text)+len(o.end), o.size)
		}
		for _, m := range url.FindAllStringSubmatch(o.text, -1) {
			asked[m[1]+m[2]]++
		}
	}
	for at := range objects {
		if n := asked[at]; n != 1 && at != "www/" {
			t.Errorf("%s is asked for %d times", at, n)
		}
		delete(asked, at)
	}
	if len(asked) > 0 || len(hosts) != SiteHosts {
		t.Errorf("asked for and not there: %v; hosts %v", asked, hosts)
	}
	slices.Sort(sizes)
	if median := sizes[len(sizes)/2]; median < 10_000 || median > 40_000 || total < 1_500_000 || total > 4_000_000 {
		t.Errorf("median of %d bytes, %d in all", median, total)
	}
	for name, want := range map[string]int{"l.www.page.example": 0, "X.CDN.page.example.": 1, "www.page.example": -1, "l.www.elsewhere.example": -1} {
		if _, host := hostOf(name); host != want {
			t.Errorf("%s is host %d, and should be %d", name, host, want)
		}
	}
	if a := SiteAddr(target, 1); a != netip.MustParseAddr("10.77.3.13") {
		t.Errorf("the second host is at %v", a)
	}
}
