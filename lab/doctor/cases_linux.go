package doctor

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/godwit-vpn/godwit/internal/doctor"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

// Case is a kind of country.
type Case struct {
	Name string
	// Want is what has to be named, all of it and nothing else that is a cause; May can be named besides.
	Want, May []doctor.Kind
	// Rules draws the firewall's, in a profile's words.
	Rules func(d *dice) string
	// Detail, if not nil, says of what was named whether it is right about more than the kind; empty is right.
	Detail func(rules string, f *doctor.Finding) string
	// Box is more of the box's own fields; empty is in path, putting TCP together.
	Box func(d *dice) string
	// Path is the way abroad; nil is 60 ms to and fro and 100 Mbit/s.
	Path func(d *dice) linkmodel.Direction
	// Config changes what the doctor is asked.
	Config func(d *dice, c *doctor.Config)
	// Two wants both of the gateway's addresses; otherwise it has one only in a third of the runs.
	Two bool
	// Unplugged examines a machine without a cable, Portal a network with a login page.
	Unplugged, Portal bool
}

// dice draw parameters.
type dice struct{ *rand.Rand }

func (d *dice) between(low, high int) int { return low + d.IntN(high-low+1) }

func (d *dice) seconds(low, high int) string { return fmt.Sprintf("%ds", d.between(low, high)) }

func pick[T any](d *dice, of ...T) T { return of[d.IntN(len(of))] }

// then is a table of what a rule does: resets.
func (d *dice) resets() string {
	return fmt.Sprintf(`reset = [%s]`, pick(d, `"gfw-1"`, `"gfw-2"`, `"gfw-1", "gfw-2", "gfw-3"`, `"iran"`))
}

// lasting is what a rule blocks later, or nothing.
func (d *dice) lasting() string {
	return pick(d, "", fmt.Sprintf(`, block = "connection", for = %q`, d.seconds(5, 300)),
		fmt.Sprintf(`, block = "3-tuple", for = %q`, d.seconds(8, 300)),
		fmt.Sprintf(`, block = "3-tuple", for = %q, extend = true`, d.seconds(8, 300)))
}

const inPath = `place = "in-path"
reassemble = ["ip", "tcp"]`

// The hellos that Godwit sends.
const (
	named   = `"t13d1517h2_*"` // JA4 says whether there is a name
	unnamed = `"t13i1516h2_*"`
)

func fixed(s string) func(*dice) string { return func(*dice) string { return s } }

// Parts of cases, to be combined.
var (
	tlsReset = func(d *dice) string {
		return fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nthen = { %s%s }\n", gatewayName, d.resets(), d.lasting())
	}
	tlsDrop = func(d *dice) string {
		return fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nthen = { drop = true, block = \"connection\", for = %q }\n", gatewayName, d.seconds(20, 400))
	}
	httpReset = func(d *dice) string {
		return fmt.Sprintf("[[box.http-name]]\nnames = [%q]\nthen = { %s%s }\n", gatewayName, d.resets(), d.lasting())
	}
	freeze = func(d *dice) string {
		return fmt.Sprintf("[[box.freeze]]\nno-udp = true\npackets = %d\nthen = { block = \"connection\" }\n", d.between(24, 120))
	}
	throttle = func(d *dice) string {
		return fmt.Sprintf("[[box.throttle]]\nnames = [%q]\nrate = %d\nburst = %d\n", gatewayName, d.between(60, 600)*1000, d.between(6, 32)*1024)
	}
	quicBlock   = fixed("[[box.address-block]]\nports = [443]\nprotocol = \"udp\"\n")
	quicVersion = func(d *dice) string {
		return fmt.Sprintf("[[box.quic-version]]\nversions = [%d]\nleast = %d\nthen = { drop = true, block = \"connection\" }\n", pick(d, 1, 0x6b3343cf), d.between(0, 1200))
	}
	police = func(d *dice) string {
		return fmt.Sprintf("[[box.udp-police]]\nrate = %d\nafter = %q\nway = \"to-server\"\n", d.between(250, 1200)*1000, d.seconds(3, 8))
	}
	forged = func(d *dice) string {
		return fmt.Sprintf("[[box.dns-injection]]\nnames = [%q]\ninjectors = [%s]\ndrop = %v\n", otherName,
			pick(d, `"gfw-1"`, `"gfw-1", "gfw-2"`, `"gfw-1", "gfw-2", "gfw-3"`, `"iran"`, `"nxdomain"`), pick(d, true, false))
	}
	chromeCut = func(d *dice) string {
		return fmt.Sprintf("[[box.tls-fingerprint]]\nja4 = [%s]\nthen = { %s }\n", pick(d, named, named+", "+unnamed),
			pick(d, "drop = true, block = \"connection\"", d.resets()+d.lasting()))
	}
	oneAddress = func(d *dice) string {
		return fmt.Sprintf("[[box.address-block]]\nto = [\"%s/32\"]\nway = %q\n", pick(d, first, second), pick(d, "both", "to-server", "to-client"))
	}
)

// others are rules that mind neither Godwit nor the doctor.
const others = `[[box.fully-encrypted]]
then = { drop = true, block = "3-tuple", for = "180s" }
[[box.openvpn]]
by = "opcodes"
data = 2
then = { drop = true, block = "endpoint" }
[[box.wireguard]]
at = "data"
data = 2
then = { drop = true, block = "endpoint" }
[[box.esni]]
then = { drop = true, block = "3-tuple", for = "150s" }
[[box.tls-name]]
names = ["banned.example"]
then = { reset = ["gfw-1"], block = "3-tuple", for = "180s" }
[[box.dns-injection]]
names = ["banned.example"]
injectors = ["gfw-1", "gfw-2"]
`

// withNames has the doctor ask about another name as well, and resolvers abroad.
func withNames(_ *dice, c *doctor.Config) {
	c.Names, c.Resolvers = []string{otherName}, append(c.Resolvers, abroad)
}

// both are two rules at once.
func both(a, b func(*dice) string) func(*dice) string {
	return func(d *dice) string { return a(d) + b(d) }
}

func kinds(k ...doctor.Kind) []doctor.Kind { return k }

// Cases are all of them: the rules that the doctor claims to know, two at once, and networks that do nothing.
func Cases() []Case {
	return []Case{
		{Name: "clean"},
		{Name: "clean, names and a resolver given", Config: withNames},
		{Name: "clean, loses 1 % each way", Path: func(d *dice) linkmodel.Direction {
			return linkmodel.Direction{Delay: time.Duration(d.between(10, 60)) * time.Millisecond, Jitter: 3 * time.Millisecond, Loss: 0.01, Rate: 50e6}
		}, May: kinds(doctor.Lossy)},
		{Name: "clean, far away", Path: func(d *dice) linkmodel.Direction {
			return linkmodel.Direction{Delay: time.Duration(d.between(100, 170)) * time.Millisecond, Rate: 100e6}
		}},
		{Name: "clean, slow line", Path: func(d *dice) linkmodel.Direction {
			return linkmodel.Direction{Delay: 20 * time.Millisecond, Rate: int64(d.between(200, 900)) * 1000, QueueTime: 200 * time.Millisecond}
		}, May: kinds(doctor.Slow, doctor.UDPSlow)},
		{Name: "no cable", Unplugged: true, Want: kinds(doctor.NoNetwork)},
		{Name: "nothing comes back", Rules: fixed("[[box.address-block]]\nto = [\"0.0.0.0/0\"]\n"), Want: kinds(doctor.NoNetwork),
			Config: func(_ *dice, c *doctor.Config) { c.System, c.Resolvers = c.System[:0], append(c.Resolvers, abroad) }},
		{Name: "login page", Portal: true, Want: kinds(doctor.CaptivePortal)},
		{Name: "wrong clock", Want: kinds(doctor.WrongClock), Config: func(d *dice, c *doctor.Config) {
			off := time.Duration(d.between(6, 6000)) * time.Minute * time.Duration(pick(d, -1, 1))
			c.Now = func() time.Time { return time.Now().Add(off) }
		}},
		{Name: "all addresses blocked", Want: kinds(doctor.Unreachable),
			Rules: fixed("[[box.address-block]]\nto = [\"198.51.100.0/24\", \"203.0.113.0/28\"]\n")},
		{Name: "one address blocked", Two: true, Want: kinds(doctor.AddressBlocked), Rules: oneAddress},
		{Name: "one address's TCP blocked", Two: true, Want: kinds(doctor.AddressBlocked), Rules: func(d *dice) string {
			return oneAddress(d) + "protocol = \"tcp\"\n"
		}},
		{Name: "TCP 443 blocked", Want: kinds(doctor.PortBlocked), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.address-block]]\nports = [443]\nprotocol = \"tcp\"\nway = %q\n", pick(d, "both", "to-server", "to-client"))
		}},
		{Name: "storm of resets at 443", Want: kinds(doctor.PortRefused), Rules: fixed("[[box.storm]]\n")},
		{Name: "TLS by name, reset", Want: kinds(doctor.TLSName), Rules: tlsReset, Detail: scope},
		{Name: "TLS by name, swallowed", Want: kinds(doctor.TLSName), Rules: tlsDrop, Detail: scope},
		{Name: "TLS by name, after some packets", Want: kinds(doctor.TLSName), Rules: func(d *dice) string {
			least := d.between(0, 8)
			return fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nthen = { block = \"connection\", pass = [%d, %d], for = %q }\n", gatewayName, least, least+d.between(0, 4), d.seconds(20, 500))
		}},
		{Name: "TLS by name, the answer is rewritten", Want: kinds(doctor.TLSName), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nthen = { block = \"connection\", way = \"to-client\", rewrite = true, for = %q }\n", gatewayName, d.seconds(20, 200))
		}},
		{Name: "TLS by name, another than the gateway's", Want: kinds(doctor.TLSName), Config: withNames, Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nthen = { %s%s }\n", otherName, d.resets(), d.lasting())
		}},
		{Name: "TLS by name, small hellos only", Want: kinds(doctor.TLSName), Box: fixed(`place = "in-path"`), Rules: tlsReset},
		{Name: "TLS by name, by lot", Want: kinds(doctor.TLSName), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nchance = %.2f\nthen = { %s%s }\n", gatewayName, 0.6+0.3*d.Float64(), d.resets(), d.lasting())
		}},
		{Name: "TLS by name, the answer is swallowed", Want: kinds(doctor.TLSName), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nthen = { block = \"connection\", way = \"to-client\", for = %q }\n", gatewayName, d.seconds(20, 200))
		}},
		{Name: "TLS as Chrome's", Two: true, Want: kinds(doctor.TLSFingerprint), Rules: chromeCut},
		{Name: "TLS as Go's", Want: kinds(doctor.TLSFingerprint), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.tls-fingerprint]]\nothers = true\nja4 = [%s]\nthen = { %s }\n", named+", "+unnamed, pick(d, "drop = true, block = \"connection\"", d.resets()))
		}},
		{Name: "TLS, all of it", Want: kinds(doctor.TLSCut), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.tls-fingerprint]]\nextensions = [43]\nthen = { %s }\n", pick(d, "drop = true, block = \"connection\"", d.resets()))
		}},
		{Name: "TLS without a name", Want: kinds(doctor.TLSNameless), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.tls-fingerprint]]\nmissing = [0]\nthen = { %s }\n", pick(d, "drop = true, block = \"connection\"", d.resets()))
		}},
		{Name: "HTTP by name, reset", Want: kinds(doctor.HTTPName), Rules: httpReset, Detail: scope},
		{Name: "HTTP by name, a page", Want: kinds(doctor.HTTPName), Rules: fixed(fmt.Sprintf(
			"[[box.http-name]]\nnames = [%q]\npage = true\nthen = { drop = true }\n", gatewayName))},
		{Name: "freeze of TCP", Want: kinds(doctor.Freeze), Rules: freeze, Detail: frozen},
		{Name: "freeze of UDP", Want: kinds(doctor.Freeze), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.freeze]]\nno-tcp = true\npackets = %d\nthen = { block = \"connection\" }\n", d.between(20, 120))
		}},
		{Name: "throttled by name", Want: kinds(doctor.Throttled), Rules: throttle, Detail: throttled},
		{Name: "UDP 443 blocked", Want: kinds(doctor.QUICBlocked), Rules: quicBlock},
		{Name: "QUIC by name", Want: kinds(doctor.QUICName), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.quic-name]]\nnames = [%q]\nreassemble = %v\nthen = { %s }\n", gatewayName, pick(d, true, false),
				pick(d, fmt.Sprintf("block = \"3-tuple\", way = \"to-server\", for = %q, wait = \"60ms/80ms/110ms/190ms/600ms\"", d.seconds(20, 200)),
					fmt.Sprintf("drop = true, block = \"connection\", for = %q, extend = true", d.seconds(20, 500))))
		}},
		{Name: "QUIC by version", Want: kinds(doctor.QUICVersion), Rules: quicVersion},
		{Name: "UDP loses", Want: kinds(doctor.UDPLossy), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.udp-police]]\nloss = %.2f\nway = %q\n", 0.4+0.3*d.Float64(), pick(d, "both", "to-server", "to-client"))
		}},
		{Name: "UDP policed after a while", Want: kinds(doctor.UDPPoliced), Rules: police, Detail: policed},
		{Name: "UDP policed from the first packet", Want: kinds(doctor.UDPSlow), Rules: func(d *dice) string {
			return fmt.Sprintf("[[box.udp-police]]\nrate = %d\nway = \"to-server\"\n", d.between(400, 1200)*1000)
		}},
		{Name: "DNS forged", Want: kinds(doctor.DNSForged), Rules: forged, Config: withNames, Detail: injectors},
		{Name: "DNS swallowed", Want: kinds(doctor.DNSSwallowed), Config: withNames, Rules: fixed(fmt.Sprintf(
			"[[box.dns-injection]]\nnames = [%q]\ndrop = true\n", otherName))},
		{Name: "bursts punished", Want: kinds(doctor.BurstsPunished), Config: func(_ *dice, c *doctor.Config) { c.Burst = 8 },
			Rules: func(d *dice) string {
				return fmt.Sprintf("[[box.burst]]\nover = %d\nspacing = \"%dms\"\nfor = %q\n", d.between(2, 5), d.between(150, 500), d.seconds(20, 600))
			}},
		{Name: "rules for what is not Godwit's", Config: withNames, Rules: fixed(others)},
		{Name: "clean, bursts asked for", Config: func(_ *dice, c *doctor.Config) { c.Burst = 8 }},

		{Name: "two: TLS by name, UDP policed", Want: kinds(doctor.TLSName, doctor.UDPPoliced), Rules: both(tlsReset, police)},
		{Name: "two: freeze, QUIC by version", Want: kinds(doctor.Freeze, doctor.QUICVersion), Rules: both(freeze, quicVersion)},
		{Name: "two: DNS forged, HTTP by name", Want: kinds(doctor.DNSForged, doctor.HTTPName), Config: withNames, Rules: both(forged, httpReset)},
		{Name: "two: throttled by name, UDP 443 blocked", Want: kinds(doctor.Throttled, doctor.QUICBlocked), Rules: both(throttle, quicBlock)},
		{Name: "two: TLS as Chrome's, DNS forged", Two: true, Want: kinds(doctor.TLSFingerprint, doctor.DNSForged), Config: withNames, Rules: both(chromeCut, forged)},
		{Name: "two: one address blocked, TLS by name", Two: true, Want: kinds(doctor.AddressBlocked, doctor.TLSName), Rules: both(oneAddress, tlsReset)},
		{Name: "two: freeze, TLS by name", Want: kinds(doctor.Freeze, doctor.TLSName), Rules: both(freeze, tlsDrop)},
	}
}
