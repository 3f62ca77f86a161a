package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/client"
)

// A tunnel that is up is told what the doctor found.
func TestDoctorSteers(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	home := t.TempDir()
	upHere(t, home, w.key).want(t, 0)
	r := execute(t, home, "doctor", "--no-resolvers", "--json").want(t, 0)
	doc := document[doctorDoc](t, r, "godwit.doctor/1")
	if doc.Steering == nil || doc.Steering.First.Endpoint != 1 || doc.Steering.First.Links == 0 {
		t.Errorf("the dialer makes of it %+v: %s", doc.Steering, r.stderr)
	}
}

func TestSteeringText(t *testing.T) {
	t.Parallel()
	ways := []client.Way{{Transport: "https", Endpoint: 1}, {Transport: "https", Endpoint: 2}, {Transport: "quic", Endpoint: 3},
		{Transport: "http", Endpoint: 4}}
	for _, c := range []struct {
		ways  int
		found string // b blocked, s slow, u blocked until some time
		first int
		want  string
	}{
		{1, "b", 0, "tries https (endpoint 1) first: the access key has no other way."},
		{4, "----", 0, "tries https (endpoint 1) first, and has nothing to avoid."},
		{4, "bb--", 2, "tries quic (endpoint 3) first, leaves https (endpoints 1, 2) alone while others work."},
		{4, "b-su", 1, "tries https (endpoint 2) first, leaves https (endpoint 1) and http (endpoint 4) alone while others work, " +
			"and takes quic (endpoint 3) only after better ones."},
		{3, "bbs", 2, "tries quic (endpoint 3) first, leaves https (endpoints 1, 2) alone while others work."},
		{4, "bbbb", 0, "tries https (endpoint 1) first, though all ways are blocked: one may open again."},
	} {
		s := client.Steering{}
		for i, way := range ways[:c.ways] {
			switch c.found[i] {
			case 'b':
				way.Found = "blocked"
			case 's':
				way.Found = "slow"
			case 'u':
				way.Until = time.Now().Add(time.Minute)
			}
			s.Ways = append(s.Ways, way)
		}
		s.First = s.Ways[c.first]
		if got := steeringText(s); got != "On this network the dialer now "+c.want {
			t.Errorf("%s: %q", c.found, got)
		}
	}
}

// Who has tried for a while and got nowhere is told what to ask.
func TestStatusSuggestsTheDoctor(t *testing.T) {
	t.Parallel()
	doc := statusDoc{}
	doc.State, doc.Attempts, doc.Error = client.Connecting, 3, "https: connect: timed out"
	doc.Ways = []client.Way{{Transport: "https", Endpoint: 1, Found: "blocked"}, {Transport: "quic", Endpoint: 2, Found: "slow"}}
	says := func(word string) bool {
		var b bytes.Buffer
		printStatus(&screen{w: &b}, doc)
		return strings.Contains(b.String(), word)
	}
	if !says("godwit doctor") || !says("the doctor found it blocked") || !says("found it slow") {
		t.Error("it does not")
	}
	doc.State = client.Connected
	if says("'godwit doctor'") {
		t.Error("it does so though all is well")
	}
}

// What client finds wrong with a setting is said of the flag, before anything is done.
func TestUpFlags(t *testing.T) {
	t.Parallel()
	for flag, value := range map[string]string{"links": "4", "browser": "lynx", "fragment": "dust", "shape": "loud", "resolver": "://",
		"transport": "pigeon"} {
		r := try(t, nil, "up", "--"+flag, value, "godwit://x").want(t, exitUsage, "flag --"+flag+": ")
		if strings.Contains(r.stderr, "field") {
			t.Errorf("it names a field, too: %s", r.stderr)
		}
	}
}
