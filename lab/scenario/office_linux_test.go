package scenario

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/survival"
)

// lax bans nothing, and strikes as other firewalls do.
const lax = `name = "lax"
story = "s"
sources = ["none: a test"]
[gateway]
addresses = 1
[hold]
box = "only"
[hold.then]
reset = ["gfw-1"]
block = "connection"
[[box]]
name = "only"
place = "in-path"
`

// inCountry does something with a peer in a country that bans nothing.
func inCountry(t *testing.T, name string, do func(context.Context, *country, peer.Peer) run) run {
	t.Helper()
	if _, err := curlProgram.find(); err != nil {
		t.Skip(err)
	}
	e, err := peer.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	tools := testTools(t)
	if strings.HasPrefix(name, "godwit") {
		tools.Godwit = netnstest.Godwit(t)
	}
	if _, err := e.Prepare(t.Context(), tools); err != nil {
		t.Skip(err)
	}
	p, err := profile.Parse("lax", []byte(lax))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/run", "lab-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c, err := newCountry(t.Context(), p, 1, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	return do(t.Context(), c, e.New(tools))
}

// Godwit's transfers outlive strikes and a change of network; those that go by themselves do not.
func TestOffice(t *testing.T) {
	netnstest.Need(t)
	for name, want := range map[string]survival.Verdict{"direct": survival.Blocked, "godwit": survival.Passes} {
		t.Run(name, func(t *testing.T) {
			plan := officePlan{bytes: 12 << 20, blow: 700 * time.Millisecond, blows: 4 * time.Second, roam: 1200 * time.Millisecond}
			if name == "direct" {
				plan.silence = 3 * time.Second
			}
			r := inCountry(t, name, func(ctx context.Context, c *country, p peer.Peer) run { return c.office(ctx, p, plan) })
			t.Logf("%s: %s", r.verdict, r.note)
			if r.verdict != want {
				t.Errorf("%+v", r)
			}
			if !strings.Contains(r.note, "no site-to-site") {
				t.Errorf("the note hides what is missing: %q", r.note)
			}
		})
	}
}
