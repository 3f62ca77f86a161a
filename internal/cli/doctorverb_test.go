package cli

import (
	"strings"
	"testing"
)

// A healthy way to a gateway: nothing is found, and nothing is said that tells whose it is.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	state := t.TempDir()
	r := try(t, nil, "doctor", w.key, "--state-dir", state, "--no-resolvers", "--json").want(t, 0)
	doc := document[doctorDoc](t, r, "godwit.doctor/1")
	host, _, _ := strings.Cut(w.addr, ":")
	if !doc.Healthy() || doc.Evidence == nil || len(doc.Evidence.Hellos) < 4 || len(doc.Evidence.Bulks) == 0 || r.stderr != "" {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	secret, _, _ := strings.Cut(strings.TrimPrefix(w.key, "godwit://"), "@")
	for _, private := range []string{host, secret, "key_id"} {
		if strings.Contains(r.stdout, private) {
			t.Errorf("it shows %q: %s", private, r.stdout)
		}
	}
	r = try(t, nil, "doctor", w.key, "--state-dir", state, "--no-resolvers", "--full", "--patience", "1s").want(t, 0, "Nothing was found",
		"not told", "address 1", host)
	if strings.Contains(r.stdout, secret) {
		t.Errorf("it shows the key: %s", r.stdout)
	}
	try(t, nil, "doctor", w.key, "--resolver", "x").want(t, exitUsage, "flag --resolver", "x")
	try(t, nil, "doctor", "--state-dir", state).want(t, exitUsage, "no access key given")
}

// A gateway that is not there: refused, or worse, and an exit code that says so.
func TestDoctorFindsNobody(t *testing.T) {
	t.Parallel()
	w := newGateway(t) // and never runs
	r := try(t, nil, "doctor", w.key, "--state-dir", t.TempDir(), "--no-resolvers").want(t, exitPartly, "is refused", "seen", "→")
	if strings.Contains(r.stdout, "127.0.0.1") {
		t.Errorf("it shows the address: %s", r.stdout)
	}
	if !strings.Contains(r.stderr, "not kept for the dialer: no device") {
		t.Errorf("it does not say that nobody heeds it: %s", r.stderr)
	}
	r = try(t, nil, "doctor", w.key, "--state-dir", t.TempDir(), "--no-resolvers", "--no-steer").want(t, exitPartly, "is refused")
	if strings.Contains(r.stderr, "dialer") {
		t.Errorf("not asked to, it speaks of the dialer: %s", r.stderr)
	}
}
