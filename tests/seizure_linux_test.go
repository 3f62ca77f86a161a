package e2e

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/tests/needles"
)

const (
	seizedSessions = 240
	strangerAddr   = "198.51.100.90"
)

// TestSeizure has many people use a gateway, seizes it while they do, and again a minute after the last of them has gone.
// In use, everything that is looked for is found in memory, or looking proves nothing. A minute later another process
// serves, whose memory holds nothing of it, and neither does the first one's, which only waits, nor the disk, what the
// gateway printed, or the kernel's memory of peers. What is found of the network's own is in docs/threat-model.md.
func TestSeizure(t *testing.T) {
	needGodwit(t)
	if raceEnabled {
		t.Skip("the race detector's own memory is terabytes of addresses")
	}
	t.Parallel()
	w := newWorld(t)
	c := newCrowd(t, w)
	w.initGateway()
	made := w.gateway.run(t, "", godwit(t), "key", "add", accessKeyName, "--devices", "1000", "--json", "--state-dir", w.gatewayDir())
	c.key = keyOf(t, made)
	c.keepNetwork()
	w.gatewayProcess = c.startGateway()
	first := w.gatewayProcess.cmd.Process.Pid

	c.come(seizedSessions)
	c.use()
	c.visit()
	before := c.needles.SearchMemory(t, first)
	for _, kind := range c.needles.Kinds() {
		switch {
		case before.Has(kind), strings.HasPrefix(kind, needles.Kept):
		case strings.HasSuffix(kind, "?"): // whether it is there at any one moment is chance
		default:
			t.Errorf("in use no %s is in memory: then its absence later says nothing", kind)
		}
	}
	t.Logf("in use %d of %d needles are in memory:%s", before.Count(), c.needles.Count(), before)

	c.leave()
	time.Sleep(time.Minute)
	serving, err := w.gatewayPID()
	if err != nil || serving == first {
		t.Fatalf("a minute after the last session process %d serves (%v), which did before", serving, err)
	}
	if err := onlyWaits(first); err != nil {
		t.Error(err)
	}
	for name, pid := range map[string]int{"the process that serves": serving, "the first process": first} {
		after := c.needles.SearchMemory(t, pid)
		if n := after.Count(); n > 0 {
			t.Errorf("a minute after the last session %d needles are in %s:%s", n, name, after)
		}
		for kind, n := range after.Kept() {
			t.Logf("%s has %s (%d)", name, kind, n)
		}
	}
	c.searchFiles()
	c.searchKernel()

	// Somebody who comes now is let in, and whoever ends the first process ends all.
	c.guests = nil
	c.come(1)
	c.leave()
	if !w.gatewayProcess.stop(syscall.SIGTERM, 20*time.Second) || w.gatewayProcess.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("the first process, asked to end: %v", w.gatewayProcess.cmd.ProcessState)
	}
	if err := gone(serving); err != nil {
		t.Error(err)
	}
}

const accessKeyName = "Key-of-needles"

// keepNetwork notes what is the network's.
func (c *crowd) keepNetwork() {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.w.gatewayDir(), "keys", "*"))
	if err != nil || len(files) < 6 {
		c.t.Fatalf("keys: %q, %v", files, err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		text := strings.TrimSpace(string(line))
		secret, err := base64.StdEncoding.DecodeString(text[strings.LastIndexByte(text, ' ')+1:])
		if err != nil {
			c.t.Fatal(err)
		}
		c.needles.Bytes(needles.Kept+filepath.Base(file), secret)
	}
	c.needles.Bytes(needles.Kept+"access key's id", c.key.ID[:])
	c.needles.Text(needles.Kept+"access key's name", accessKeyName)
}

// searchKernel looks at what the gateway's kernel remembers of TCP's peers. By default that is each one's address, and
// when it was last heard of; gateway init, as root, turned that off.
func (c *crowd) searchKernel() {
	c.t.Helper()
	table := c.w.gateway.run(c.t, "", "ip", "tcp_metrics", "show")
	if f := c.needles.Search("tcp_metrics", []byte(table)); f.Count() > 0 {
		c.t.Errorf("in the kernel:%s", f)
	}
}

// searchFiles looks at all that the gateway wrote: its directory, with what SQLite keeps beside and inside of its file,
// and what it printed.
func (c *crowd) searchFiles() {
	c.t.Helper()
	files := 0
	look := func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if i, err := os.Lstat(path); err != nil || !i.Mode().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if f := c.needles.Search(filepath.Base(path), data); f.Count() > 0 {
			c.t.Errorf("on disk:%s", f)
		}
		return nil
	}
	for _, root := range []string{c.w.gatewayDir(), c.w.gatewayProcess.log} {
		if err := filepath.WalkDir(root, look); err != nil {
			c.t.Error(err)
		}
	}
	if said, _ := os.ReadFile(c.w.gatewayProcess.log); !bytes.Contains(said, []byte("link ended")) {
		c.t.Errorf("the gateway did not say that links ended: it does not log all that it can")
	}
	if files < 4 {
		c.t.Errorf("only %d files were searched", files)
	}
}
