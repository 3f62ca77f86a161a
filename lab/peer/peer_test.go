//go:build linux

package peer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	for _, name := range append(Names(), "godwit-12", "godwit-relay", "godwit-nginx") {
		e, err := Find(name)
		if err != nil || e.Name != name || e.Prepare == nil || e.Check == nil || e.New == nil {
			t.Errorf("%s: %+v %v", name, e, err)
		}
	}
	for _, bad := range []string{"", "nonesuch", "godwit-", "godwit-0", "godwit-x"} {
		if _, err := Find(bad); err == nil {
			t.Errorf("found %q", bad)
		}
	}
	e, _ := Find("godwit-3")
	if g := e.New(&Tools{Godwit: "/x"}).(*godwit); g.links != 3 || g.path != "/x" {
		t.Errorf("godwit-3 is %+v", g)
	}
}

func TestListed(t *testing.T) {
	t.Parallel()
	const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0202 4D0A:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 02024D0A:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   2: 0100007F:0438 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1
`
	const udp = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  88: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 0
`
	for _, c := range []struct {
		table, network string
		port           int
		want           bool
	}{
		{tcp, "tcp", 443, true}, {tcp, "tcp", 1080, false}, {tcp, "tcp", 80, false}, {"", "tcp", 443, false},
		{udp, "udp", 51820, true}, {udp, "udp", 443, false},
	} {
		if got := listed([]byte(c.table), c.network, c.port); got != c.want {
			t.Errorf("%s %d: %v", c.network, c.port, got)
		}
	}
}

func TestSingboxConfigurations(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]protocol{"reality": reality, "trojan": trojan, "hysteria2": hysteria2} {
		s := &Site{Dir: t.TempDir()}
		a, err := p.configure(s)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.configure(s)
		if err != nil {
			t.Fatal(err)
		}
		one, err := json.Marshal([]object{a.inbound, a.outbound})
		if err != nil {
			t.Fatal(err)
		}
		two, _ := json.Marshal([]object{b.inbound, b.outbound})
		if string(one) == string(two) {
			t.Errorf("%s: secrets repeat", name)
		}
	}
	if u := randomUUID(); len(u) != 36 || u[14] != '4' || strings.Count(u, "-") != 4 {
		t.Errorf("uuid %q", u)
	}
}

func TestBuiltAs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x")
	if _, err := builtAs(path, singboxProgram, ""); err == nil {
		t.Error("a missing program was taken")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := builtAs(self, singboxProgram, ""); err == nil {
		t.Error("another program was taken")
	}
}

func TestLastWords(t *testing.T) {
	t.Parallel()
	p := &Process{log: filepath.Join(t.TempDir(), "log")}
	if p.LastWords() != "" {
		t.Error("words from nowhere")
	}
	os.WriteFile(p.log, []byte(strings.Repeat("x", 5000)+" the end\n"), 0o600)
	if w := p.LastWords(); len(w) > 1500 || !strings.HasSuffix(w, "the end") {
		t.Errorf("%d bytes: %q", len(w), w)
	}
	var none *Process
	none.Stop()
	if none.Died() != nil {
		t.Error("nothing died")
	}
}
