package prober

import "context"

// OpenVPN over TCP (B4). A server without tls-auth answers a client's reset; one with it closes at once, because the
// packet is whole and not authentic, but waits where one byte is missing. Random bytes announce a length that it refuses.

const (
	openvpnReset  = "OpenVPN's reset"
	openvpnShort  = "OpenVPN's reset without its last byte"
	openvpnRandom = 2000
	openvpnSpeaks = "OpenVPN's reset in return"
)

// reset is a client's P_CONTROL_HARD_RESET_CLIENT_V2: opcode 7, a session id, no acknowledgements, packet 0.
func (t *Target) reset() []byte {
	return append(append([]byte{7 << 3}, t.random(8)...), 0, 0, 0, 0, 0)
}

// isReset reports whether b is a server's: opcode 8.
func isReset(b []byte) bool { return len(b) >= 14 && b[0] == 8<<3 }

func openvpnProbe(name string, missing int) Probe {
	return simple{Kind{Name: name, Family: "openvpn", Network: "tcp"}, func(ctx context.Context, t *Target) Answer {
		b := t.reset()
		b = append([]byte{0, byte(len(b))}, b...)
		a, got := t.hear(ctx, false, b[:len(b)-missing])
		if len(got) > 2 && isReset(got[2:]) {
			a.What = openvpnSpeaks
		}
		return a
	}}
}

var openvpnProbes = []Probe{
	openvpnProbe(openvpnReset, 0),
	openvpnProbe(openvpnShort, 1),
}
