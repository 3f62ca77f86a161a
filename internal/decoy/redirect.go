package decoy

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// Redirect is what answers on port 80: the same address with https, on the port the website has, which is left out where
// it is 443.
//
// Every method gets 301, and GET the little page that http.Redirect writes. That is what the usual few lines of Go do,
// and also "return 301" of nginx and "Redirect permanent" of Apache; 308 would be Caddy's, along with its Server header.
// A request without a host that could be one, which an HTTP/1.1 request cannot be in Go, gets 400.
func Redirect(port uint16) http.Handler {
	suffix := ""
	if port != 443 {
		suffix = ":" + strconv.Itoa(int(port))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, ok := hostOnly(r.Host)
		target := r.URL.RequestURI()
		if !ok || !strings.HasPrefix(target, "/") { // "GET http:x" would otherwise continue the host's name
			http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, "https://"+host+suffix+target, http.StatusMovedPermanently)
	})
}

// hostOnly is a Host header without its port, if it is a name or an address.
func hostOnly(hostport string) (string, bool) {
	host := hostport
	if h, port, err := net.SplitHostPort(hostport); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
			return "", false
		}
		host = h
		if hostport[0] == '[' {
			host = "[" + h + "]"
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return host, ok && err == nil && a.Is6() && a.Zone() == ""
	}
	if host == "" || len(host) > 253 || host[0] == '.' || host[0] == '-' {
		return "", false
	}
	for i := range len(host) {
		c := host[i] | 0x20
		if (c < 'a' || c > 'z') && (host[i] < '0' || host[i] > '9') && host[i] != '.' && host[i] != '-' && host[i] != '_' {
			return "", false
		}
	}
	return host, true
}
