package e2e

import (
	"bytes"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestSeizedDisk looks through everything that a gateway has written, while it runs, when its users have gone, and when
// it has ended, for who they were and where they went. What is in its memory is not looked at here.
func TestSeizedDisk(t *testing.T) {
	need(t, "curl")
	w := withGateway(t)
	w.clientProcess = w.startClient(w.key)
	for _, host := range []string{"site.test", webAddr} {
		if code, _ := w.curl("--silent", "--output", "/dev/null", "--socks5-hostname", proxyAddr,
			"http://"+host+"/bytes/where-they-went/100000"); code != 0 {
			t.Fatalf("curl through the tunnel ended with %d", code)
		}
	}
	needles := map[string][]byte{"the site's name": []byte("site.test"), "a path": []byte("where-they-went")}
	for what, a := range map[string]string{"the client's address": "198.51.100.2", "the site's address": webAddr} {
		needles[what] = []byte(a)
		needles[what+", as bytes"] = net.ParseIP(a).To4()
	}
	search := func(when string) (found []string) {
		t.Helper()
		files, total := 0, 0
		look := func(path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files, total = files+1, total+len(b)
			for what, needle := range needles {
				if bytes.Contains(bytes.ToLower(b), bytes.ToLower(needle)) {
					found = append(found, filepath.Base(path)+" holds "+what)
				}
			}
		}
		look(w.gatewayProcess.log)
		err := filepath.WalkDir(w.gatewayDir(), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				look(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes in %d files", when, total, files)
		return found
	}
	time.Sleep(7 * time.Second) // until the bytes of this month have been counted, which is what is written
	for _, step := range []struct {
		when string
		end  *process
	}{{"in use", nil}, {"after its users went", w.clientProcess}, {"after its end", w.gatewayProcess}} {
		if step.end != nil {
			step.end.stop(syscall.SIGTERM, 10*time.Second)
		}
		if found := search(step.when); found != nil {
			t.Errorf("%s: %q", step.when, found)
		}
	}
	// What is there is found.
	if err := os.WriteFile(filepath.Join(w.gatewayDir(), "planted"), append([]byte("a\x00Site.Test"), 192, 0, 2, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := search("with needles in it"); len(found) != 2 {
		t.Errorf("of two needles %q were found", found)
	}
}
