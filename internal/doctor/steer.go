package doctor

import (
	"slices"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/dialer"
	"github.com/godwit-vpn/godwit/internal/transports"
	"github.com/godwit-vpn/godwit/internal/transports/dns"
	"github.com/godwit-vpn/godwit/internal/transports/http"
	"github.com/godwit-vpn/godwit/internal/transports/quic"
)

// unknownEnd is for how long an address is left alone that blocks after a cut, where its end was not seen: as long as the
// GFW was measured to after names, and Russia's firewall after bursts.
const unknownEnd = 2 * time.Minute

// Steer tells a dialer what was found of each endpoint, at a time not long after the report was made. ok is false where the
// report tells nothing of the ways: behind a login page, without a network, by a wrong clock, or if nothing of the gateway was
// met.
func (r *Report) Steer(now time.Time) (found []dialer.Found, ok bool) {
	for _, f := range r.Findings {
		switch f.Kind {
		case NoNetwork, CaptivePortal, WrongClock, Unreachable, SomebodyElse:
			return nil, false
		}
	}
	for _, e := range r.ends {
		name, addr := transports.Place(e.Endpoint)
		w := dialer.Found{Way: dialer.Way{Transport: name, Addr: addr}}
		for _, f := range r.Findings {
			blocked, slow := r.hits(&f, e)
			w.Blocked, w.Slow = w.Blocked || blocked, w.Slow || slow
			if until := r.until(&f, e, now); until.After(w.Until) {
				w.Until = until
			}
		}
		found = append(found, w)
	}
	return found, true
}

// overTCP reports whether an endpoint is reached by TCP to its address, and overTLS whether a browser's TLS is what comes
// first then.
func overTCP(e accesskey.Endpoint) bool { return e.Transport != quic.Name && e.Transport != dns.Name }
func overTLS(e accesskey.Endpoint) bool { return overTCP(e) && e.Transport != http.Name }

// hits reports whether a finding says that an endpoint's way does not work, or badly.
func (r *Report) hits(f *Finding, e end) (blocked, slow bool) {
	here, named := at(f, e), r.named(f, e.Name)
	tls, isQUIC, isHTTP := overTLS(e.Endpoint), e.Transport == quic.Name, e.Transport == http.Name
	switch f.Kind {
	case AddressBlocked:
		return here && e.Transport != dns.Name && (f.How != "tcp" || overTCP(e.Endpoint)), false
	case PortBlocked, PortRefused:
		return here && overTCP(e.Endpoint), false
	case TLSCut:
		return here && tls, false
	case TLSNameless:
		return tls && e.Name == "", false
	case TLSFingerprint:
		return tls && f.Hello == Browser && named, false
	case TLSName:
		return tls && f.Hello != Small && named, false
	case HTTPCut:
		return here && isHTTP, false
	case HTTPName:
		return isHTTP && named, false
	case QUICBlocked:
		return here && isQUIC, false
	case QUICVersion:
		return here && isQUIC && f.Version != 2, false // ours is the first
	case QUICName:
		return isQUIC && f.Hello != Small && named, false
	case Throttled:
		return false, tls && named
	case UDPLossy, UDPPoliced:
		return false, here && isQUIC
	case Freeze:
		return false, here && (f.UDP && isQUIC || !f.UDP && overTCP(e.Endpoint))
	}
	return false, false
}

// until is when an endpoint's way is open again that was blocked for what the doctor did itself; zero is now.
func (r *Report) until(f *Finding, e end, now time.Time) time.Time {
	lasts := f.Kind == BurstsPunished || f.Scope == serverPort && !f.UDP
	switch {
	case !lasts || f.Place < 0 || !at(f, e) || !overTCP(e.Endpoint):
		return time.Time{}
	case f.AtMost > 0:
		return now.Add(time.Duration(f.AtMost) * time.Second)
	}
	return now.Add(unknownEnd)
}

// at reports whether a finding is about all places of an endpoint, and its port.
func at(f *Finding, e end) bool {
	port := e.Port
	if port == 0 {
		port = 443
	}
	if f.Port != 0 && f.Port != port {
		return false
	}
	return f.Place < 0 || len(e.places) > 0 && !slices.ContainsFunc(e.places, func(p int) bool { return p != f.Place })
}

// named reports whether a finding is about what says a name.
func (r *Report) named(f *Finding, name string) bool {
	switch {
	case f.Name == 0:
		return true
	case f.Name == MadeUp: // any
		return name != ""
	}
	return f.Name < len(r.names) && r.names[f.Name] == name
}
