package doctor

import (
	"net/netip"
	"time"
)

// Avoid is a way across that is known to fail here. Fields that are zero mean any.
type Avoid struct {
	Transport string // "https", "quic", "http"
	Addr      netip.Addr
	Port      uint16
	Name      string // said in TLS or HTTP
	Version   int    // of QUIC
	Reason    Kind
	// Until is when it may work again; zero is not known.
	Until time.Time
	// Slow says that it works, and badly: better than nothing.
	Slow bool
}

// Avoid says what a dialer had better leave alone on this network, at a time not long after the report was made.
func (r *Report) Avoid(now time.Time) (all []Avoid) {
	for _, f := range r.Findings {
		a := Avoid{Reason: f.Kind, Port: f.Port}
		if f.Place >= 0 && f.Place < len(r.addrs) {
			a.Addr = r.addrs[f.Place]
		}
		if f.Name > 0 && f.Name < len(r.names) {
			a.Name = r.names[f.Name]
		}
		left := time.Time{}
		if f.AtMost > 0 {
			left = now.Add(time.Duration(f.AtMost) * time.Second)
		}
		switch f.Kind { // a made-up name's number means any name: Name stays empty, as for none
		case AddressBlocked:
			if f.How == "tcp" {
				a.Transport = "https"
			}
		case PortBlocked, TLSCut, TLSNameless: // of the last: without a name
			a.Transport = "https"
		case TLSName, TLSFingerprint, Throttled:
			if f.Hello != "" && f.Hello != Browser {
				continue // ours are not touched
			}
			a.Transport, a.Slow = "https", f.Kind == Throttled
			if f.Scope == serverPort { // whatever is said there, for a while
				all = append(all, Avoid{Addr: a.Addr, Port: a.Port, Reason: f.Kind, Until: left})
			}
			a.Addr, a.Port = netip.Addr{}, 0 // wherever it is said
		case HTTPName:
			a.Transport, a.Addr, a.Port = "http", netip.Addr{}, 0
		case HTTPCut:
			a.Transport = "http"
		case QUICBlocked, QUICVersion:
			a.Transport, a.Version = "quic", f.Version
		case QUICName:
			if f.Hello == Small {
				continue
			}
			a.Transport = "quic"
		case UDPLossy, UDPPoliced:
			a.Transport, a.Slow = "quic", true
		case Freeze:
			a.Transport, a.Slow = "https", true
			if f.UDP {
				a.Transport = "quic"
			}
		case BurstsPunished:
			if a.Until = left; left.IsZero() {
				a.Until = now.Add(2 * time.Minute) // as measured in Russia
			}
			a.Transport = "https"
		default:
			continue
		}
		all = append(all, a)
	}
	return all
}
