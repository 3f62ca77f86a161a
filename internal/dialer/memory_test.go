package dialer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	key := []byte("device")
	m, err := OpenMemory(path, key)
	if err != nil {
		t.Fatal(err)
	}
	w := New(four)
	m.Recall("home", w, start)
	w.Failed(0, start, Struck)
	w.Failed(0, start, Struck)
	w.Lived(2, start)
	if err := m.Keep("home", w, start); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, clear := range []string{"home", "https", "a:443", "443"} {
		if bytes.Contains(b, []byte(clear)) {
			t.Errorf("%q is in the file: %s", clear, b)
		}
	}
	read := func(key []byte) *Memory {
		t.Helper()
		m, err := OpenMemory(path, key)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m = read(key)
	again := New([]Way{four[2], four[0]}) // a key's endpoints may come in another order
	m.Recall("home", again, start.Add(time.Minute))
	if again.Known(0).Worked != start || again.Known(1).Strikes != 2 || !again.Known(1).Until.After(start.Add(90*time.Second-1)) {
		t.Errorf("remembered %+v and %+v", again.Known(0), again.Known(1))
	}
	nothing := func(what string, m *Memory, network string, now time.Time) {
		t.Helper()
		m.Recall(network, again, now)
		if again.Known(0) != (Known{}) || again.Known(1) != (Known{}) {
			t.Errorf("%s: %+v", what, again.Known(0))
		}
	}
	nothing("elsewhere", m, "cafe", start)
	nothing("no network", m, "", start)
	nothing("another device", read([]byte("other")), "home", start)
	nothing("the clock was set back", m, "home", start.Add(-time.Hour))
	for i := range 2 * keepNetworks {
		if err := m.Keep(fmt.Sprint(i), w, start.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(read(key).networks); n != keepNetworks {
		t.Errorf("%d networks are remembered", n)
	}
	m.Keep("new", w, start.Add(2*keepFor))
	if n := len(read(key).networks); n != 1 {
		t.Errorf("%d networks are remembered after a long time", n)
	}
	for _, damaged := range []string{"", "{", "[]", `{"x":1}`, "null"} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMemory(path, key)
		if err == nil && damaged != "null" {
			t.Errorf("%q: no error", damaged)
		}
		nothing("a damaged file", m, "home", start)
		if err := m.Keep("home", w, start); err != nil {
			t.Error(err)
		}
	}
}
