package model

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What the attacker has, with the protocol as it is. What falls, falls because it was given, or is explained in
// docs/model.md.
var attackers = []scenario{
	{name: "the network, and is a stranger"},
	{name: "X25519 broken at once", classicBroken: true},
	{name: "an access key", user: true},
	{name: "an access key, everyone's key ids, certificates and session ids", falls: "id key session",
		user: true, keyIDs: true, certificates: true, sessions: true},
	{name: "everyone's device keys and certificates", falls: "id key", deviceKeys: true, certificates: true},
	{name: "the same, and an access key with a place left", falls: "moved id key",
		user: true, deviceKeys: true, certificates: true},
	{name: "the same, and an access key without one", falls: "id key",
		user: true, deviceKeys: true, certificates: true, full: true},
	{name: "the door key", falls: "door", doorKey: true},
	{name: "the door key and everyone's key ids", falls: "door guest id", doorKey: true, keyIDs: true},
	{name: "the same, without places left", falls: "door id", doorKey: true, keyIDs: true, full: true},
	{name: "the same, and everyone's device keys and certificates", falls: "door device once down id key",
		doorKey: true, keyIDs: true, deviceKeys: true, certificates: true, full: true},
	{name: "another gateway of the network", falls: "door guest id key session", otherGateway: true},
	{name: "the gateways' TLS keys, in use", falls: "marker welcome tls up id key session", serverKey: true},
	{name: "control's key and an access key", user: true, controlKey: true},
	{name: "all keys, afterwards, and X25519 broken", falls: "key", later: true},
}

// What the protocol would be without one of its parts. Each must fall to something that it withstands as it is: else the
// model, or the prover, would be blind to it. Where nothing falls, another part holds alone, which the next row shows.
var robbed = []scenario{
	{name: "no pin: any CA will do", falls: "device once marker welcome tls up id key session", noPin: true},
	{name: "no exporter in the MAC, and the TLS keys stolen", falls: "door marker welcome tls up id key session",
		macWithoutExporter: true, serverKey: true, full: true},
	{name: "an exporter not bound to the transcript, and the TLS keys stolen",
		falls:           "marker welcome tls up down id key session",
		exporterUnbound: true, serverKey: true, full: true},
	{name: "no server key in the proof, and another gateway", falls: "door id key session",
		proofWithoutServer: true, otherGateway: true, full: true},
	{name: "an exporter not bound to the transcript, and another gateway", falls: "door id key session",
		exporterUnbound: true, otherGateway: true, full: true},
	{name: "neither of both, and another gateway", falls: "door device once down id key session",
		exporterUnbound: true, proofWithoutServer: true, otherGateway: true, full: true},
	{name: "transport, version, flags and features not in the proof", falls: "device once welcome", proofWithoutFields: true},
	{name: "the knock not encrypted", falls: "guest welcome id key session", inTheOpen: true},
	{name: "neither of both, and no places left", falls: "device once welcome id key session",
		inTheOpen: true, proofWithoutFields: true, full: true},
	{name: "the same keys for both directions, the marker an echo", falls: "marker", oneKey: true},
	{name: "0-RTT", falls: "once", early: true},
	{name: "no ephemeral keys, all keys afterwards", falls: "up down id key session", staticKeys: true, later: true},
	{name: "a client that takes X25519, broken", clientTakesClassic: true, classicBroken: true},
	{name: "the same, and the server does not sign the ClientHello", falls: "marker welcome tls up id key session",
		clientTakesClassic: true, classicBroken: true, helloUnsigned: true},
	{name: "client and gateway take X25519, broken afterwards", falls: "up down id key session",
		clientTakesClassic: true, gatewayTakesOld: true, later: true},
	{name: "certificates good with any access key; device keys, certificates and a full access key stolen",
		falls: "moved id key", user: true, deviceKeys: true, certificates: true, full: true, anyAccessKey: true},
}

func TestAttackers(t *testing.T) { verdicts(t, attackers) }
func TestRobbed(t *testing.T)    { verdicts(t, robbed) }

func verdicts(t *testing.T, list []scenario) {
	doc, err := os.ReadFile("../../docs/model.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range list {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			clauses, err := link(sc).saturate()
			if err != nil {
				t.Fatal(err)
			}
			var falls []string
			for _, q := range queries {
				c := q.attack(sc, clauses)
				if c == nil {
					continue
				}
				falls = append(falls, q.name)
				t.Logf("%s falls:\n\t%s", q.name, strings.Join(c.story(), "\n\t"))
			}
			if got := strings.Join(falls, " "); got != sc.falls {
				t.Errorf("%q falls, not %q", got, sc.falls)
			}
			if row := fmt.Sprintf("| %s | %s |\n", sc.name, orNone(sc.falls)); !strings.Contains(string(doc), row) {
				t.Errorf("docs/model.md does not say\n%s", row)
			}
			// What never happens is easily safe: honest runs must come to their end.
			for _, event := range []string{"opened", "admitted", "tls", "through", "welcomed"} {
				reached := false
				for _, c := range clauses {
					reached = reached || c.conclude.fn == "end:"+event
				}
				if !reached {
					t.Errorf("nobody is ever %s", event)
				}
			}
		})
	}
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
