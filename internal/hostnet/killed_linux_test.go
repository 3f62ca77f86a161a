package hostnet

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/iface"
)

// hold is a program that carries traffic, as far as the machine knows.
func hold(state string) {
	err := func() error {
		f, _, err := iface.Create("tun7", false)
		if err != nil {
			return err
		}
		defer f.Close()
		h, err := open(state, os.Getenv(envHold+"_ETC"))
		if err != nil {
			return err
		}
		if err := h.Set(carrying); err != nil {
			return err
		}
		fmt.Println("ready")
		for {
			time.Sleep(time.Hour)
		}
	}()
	fmt.Println(err)
	os.Exit(1)
}

// TestKilled shows that a process that is stopped, and then killed, lets nothing out, and that all is undone after it.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	list := attempts("eth0")
	before := w.settled(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{envHold + "=" + w.state, envHold + "_ETC=" + w.etc, "GORACE=atexit_sleep_ms=0"}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err, w.client.Start(cmd))
	said, err := bufio.NewReader(out).ReadString('\n')
	if said != "ready\n" {
		t.Fatalf("%q, %v", said, err)
	}
	none := func(what string) {
		t.Helper()
		if strays := w.try(t, list); len(strays) > 0 {
			t.Errorf("%s: left the machine: %s", what, strings.Join(strays, ", "))
		}
	}
	none("running")
	must(t, cmd.Process.Signal(unix.SIGSTOP))
	none("stopped")
	must(t, cmd.Process.Kill())
	none("being killed")
	_ = cmd.Wait()
	none("killed")
	must(t, w.client.Do(func() error {
		_, err := rescue(w.state, w.etc)
		return err
	}))
	same(t, "rescued", before, w.snapshot(t))
	if strays := w.try(t, list[:1]); !slices.Contains(strays, list[0].seen) {
		t.Errorf("after rescue: no %s was seen: %v", list[0].seen, strays)
	}
}
