package cli

import (
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
)

// maxExpiry keeps a slip of the finger from making a key that no calendar holds.
const maxExpiry = 100 * 365 * 24 * time.Hour

var spans = map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
	'y': 365 * 24 * time.Hour}

// parseExpiry reads "30d", "12h", "2w", "1y", a date, whose whole day counts, in UTC, or a time in RFC 3339. Empty and
// "never" are the zero time.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	fail := func() (time.Time, error) {
		return time.Time{}, usagef("flag --expires: %q is neither a time from now, such as 12h, 30d, 2w or 1y, "+
			"nor a date such as %s, nor never", s, now.UTC().AddDate(1, 0, 0).Format(time.DateOnly))
	}
	var at time.Time
	if s == "" || s == "never" {
		return at, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		at = day.AddDate(0, 0, 1).Add(-time.Second)
	} else if t, err := time.Parse(time.RFC3339, s); err == nil {
		at = t
	} else {
		unit, ok := spans[s[len(s)-1]]
		n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
		if !ok || err != nil || time.Duration(n) > maxExpiry/unit {
			return fail()
		}
		at = now.Add(time.Duration(n) * unit)
	}
	if !at.After(now) {
		return time.Time{}, usagef("flag --expires: %q is in the past", s)
	}
	if at.Sub(now) > maxExpiry {
		return fail()
	}
	return at.UTC().Truncate(time.Second), nil
}

var sizeText = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([kmgtp])(i?)b$`)

// parseLimit reads a number of bytes a month: "500MB" and "1.5TB" by thousands, "100GiB" by 1024s. Empty and "none" are
// 0, which is no limit. A unit is a must, as nobody means bytes.
func parseLimit(s string) (int64, error) {
	if s == "" || s == "none" {
		return 0, nil
	}
	m := sizeText.FindStringSubmatch(strings.ToLower(s))
	if m == nil {
		return 0, usagef("flag --limit: %q is not a size such as 500MB, 100GB, 1TB or 100GiB, nor none", s)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	step := 1000.0
	if m[3] != "" {
		step = 1024
	}
	n *= math.Pow(step, float64(1+strings.Index("kmgtp", m[2])))
	switch n = math.Round(n); {
	case n < 1:
		return 0, usagef("flag --limit: %q would shut everyone out: give more, or none for no limit", s)
	case err != nil || n > control.MaxLimit:
		return 0, usagef("flag --limit: %q is more than 1000PB: give less, or none for no limit", s)
	}
	return int64(n), nil
}

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// checkProfile checks the name of a profile, which is also a directory's.
func checkProfile(name string) error {
	if !profileName.MatchString(name) || strings.HasSuffix(name, ".") {
		return usagef("flag --profile: %q is not a name of up to 32 letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

// parseProxy reads the address of the client's proxy, which only this machine may reach.
func parseProxy(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if n, bad := strconv.ParseUint(s, 10, 16); err != nil && bad == nil { // a port alone
		return net.JoinHostPort("127.0.0.1", strconv.FormatUint(n, 10)), nil
	}
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return "", usagef("flag --proxy: %q is not an address and a port, such as 127.0.0.1:1080", s)
	}
	if host == "localhost" || host == "" {
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "", usagef("flag --proxy: %q is not an address", host)
	case !a.IsLoopback():
		return "", usagef("flag --proxy: other machines could use a proxy on %s: give a loopback address, "+
			"such as 127.0.0.1:1080", a)
	}
	return net.JoinHostPort(host, port), nil
}

// parseEndpoint fills in the port that is nearly always meant.
func parseEndpoint(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s
	}
	host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a, 443).String()
	}
	if !strings.Contains(s, ":") {
		return s + ":443"
	}
	return s // the settings say what is wrong with it
}

// parseListen checks an address to listen on.
func parseListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return usagef("flag --listen: %q is not an address and a port, such as :443 or 192.0.2.1:443", s)
	}
	return nil
}

// parseAllow checks a prefix that the gateway's users may reach.
func parseAllow(s string) error {
	if _, err := netip.ParsePrefix(s); err != nil {
		return usagef("flag --allow: %q is not a prefix, such as 192.168.1.0/24", s)
	}
	return nil
}
