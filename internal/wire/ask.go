package wire

import (
	"strconv"
	"strings"
)

// An OPEN whose host begins with a slash asks the gateway itself. No name and no address begins so, so that no application
// can ask, and a gateway that does not know the question refuses it as a bad target, without looking anything up.
//
//	/browser/ family / date       port 0
//
// asks for the profile of a browser that is newer than the client's. family is 1 to 16 letters from a to z; date, in
// seconds since 1970, is 0 or 1 to 12 digits without leading zeros. The stream brings the signed profile and ends; code 5
// says that there is none.

// BrowserAsk is the question for a newer profile of a browser.
type BrowserAsk struct {
	Family string
	Date   int64 // of the client's, in seconds since 1970; none that is older counts
}

const (
	askBrowser = "/browser/"
	maxFamily  = 16
	maxDate    = 12 // digits
)

// Host is the host that OPEN has to name.
func (a BrowserAsk) Host() string {
	return askBrowser + a.Family + "/" + strconv.FormatInt(max(a.Date, 0), 10)
}

// ParseBrowserAsk reads what Host writes; ok is false for all else.
func ParseBrowserAsk(host string) (a BrowserAsk, ok bool) {
	rest, ok := strings.CutPrefix(host, askBrowser)
	family, date, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || family == "" || len(family) > maxFamily || date == "" || len(date) > maxDate {
		return a, false
	}
	for _, c := range []byte(family) {
		if c < 'a' || c > 'z' {
			return a, false
		}
	}
	n, err := strconv.ParseUint(date, 10, 63)
	if a = (BrowserAsk{family, int64(n)}); err != nil || a.Host() != host {
		return BrowserAsk{}, false
	}
	return a, true
}
