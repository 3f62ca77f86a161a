package store_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/store"
)

// childVariable makes the test binary one of the programs below instead of the tests. Its arguments are the state
// directory and what the program wants.
const childVariable = "GODWIT_STORE_TEST_CHILD"

var children = map[string]func(args []string) error{
	"write":  childWrite,
	"enrol":  childEnrol,
	"revoke": childRevoke,
	"fill":   childFill,
}

func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv(childVariable)]; ok {
		if err := child(os.Args[1:]); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func child(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+program)
	return cmd
}

// service is control as a process has it, on the state directory dir.
func service(ctx context.Context, dir string) (*control.Service, *store.SQLite, error) {
	secrets, err := control.InitSecrets(dir, rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	s, err := store.OpenSQLite(ctx, filepath.Join(dir, "godwit.db"))
	if err != nil {
		return nil, nil, err
	}
	c, err := control.New(ctx, control.Config{Store: s, Secrets: secrets})
	return c, s, err
}

func mustService(t *testing.T, dir string) *control.Service {
	t.Helper()
	c, s, err := service(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// childWrite enrols, adds and revokes without end and says what it has done only once that is durable.
func childWrite(args []string) error {
	ctx := context.Background()
	c, _, err := service(ctx, args[0])
	if err != nil {
		return err
	}
	key, err := c.KeyByName(ctx, "everyone")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		k, err := device.New(rand.Reader)
		if err != nil {
			return err
		}
		if _, err := c.Enrol(ctx, key.ID, k.Public()); err != nil {
			return err
		}
		fmt.Println("device", k.ID())
		if n%4 == 1 {
			if _, err := c.RevokeDevice(ctx, k.ID().String()); err != nil {
				return err
			}
			fmt.Println("revoked", k.ID())
		}
		if n%4 == 2 {
			name := k.ID().String()
			if _, err := c.AddKey(ctx, control.AccessKey{Name: name, MaxDevices: 1}); err != nil {
				return err
			}
			fmt.Println("key", name)
		}
	}
}

// A process killed in the middle of its writes has done what it said it had, at most one thing more, and nothing half.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	everyone := control.AccessKey{Name: "everyone", MaxDevices: control.MaxDevicesLimit}
	if _, err := mustService(t, dir).AddKey(t.Context(), everyone); err != nil {
		t.Fatal(err)
	}
	said := map[string]map[string]bool{"device": {}, "revoked": {}, "key": {}}
	for round := range 6 {
		cmd := child(t, "write", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(300+mathrand.IntN(300))*time.Millisecond, func() { cmd.Process.Kill() })
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err == io.EOF { // a line without its end was not said
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			what, id, _ := strings.Cut(strings.TrimSpace(line), " ")
			if said[what] == nil {
				t.Fatalf("round %d: the child says %q", round, line)
			}
			said[what][id] = true
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	if len(said["device"]) < 20 || len(said["revoked"]) == 0 || len(said["key"]) == 0 {
		t.Fatalf("the children did too little for this test to say anything: %d devices, %d revocations, %d keys",
			len(said["device"]), len(said["revoked"]), len(said["key"]))
	}

	c := mustService(t, dir)
	devices, err := c.Devices(t.Context(), control.DeviceFilter{})
	if err != nil {
		t.Fatal(err)
	}
	have, revoked := map[string]bool{}, map[string]bool{}
	for _, d := range devices {
		have[d.ID.String()], revoked[d.ID.String()] = true, d.Revoked
	}
	for id := range said["device"] {
		if !have[id] {
			t.Errorf("device %s had its certificate but is lost", id)
		}
	}
	for id := range said["revoked"] {
		if !revoked[id] {
			t.Errorf("device %s was revoked but is not any more", id)
		}
	}
	keys, err := c.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, k := range keys {
		named[k.Name] = true
	}
	for name := range said["key"] {
		if !named[name] {
			t.Errorf("access key %s was handed out but is lost", name)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "godwit.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var health string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&health); err != nil || health != "ok" {
		t.Errorf("integrity check says %q, %v", health, err)
	}
	t.Logf("%d devices, %d revocations and %d keys survived six kills",
		len(said["device"]), len(said["revoked"]), len(said["key"]))
}

// childEnrol brings a hundred devices at once and says how each fared.
func childEnrol(args []string) error {
	ctx := context.Background()
	c, s, err := service(ctx, args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	key, err := c.KeyByName(ctx, "everyone")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range 100 {
		k, err := device.New(rand.Reader)
		if err != nil {
			return err
		}
		wg.Go(func() {
			switch _, err := c.Enrol(ctx, key.ID, k.Public()); {
			case err == nil:
				fmt.Println("in")
			case errors.Is(err, control.ErrTooManyDevices):
				fmt.Println("full")
			default:
				fmt.Println("error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

// Three processes on one file, a hundred devices each, thirteen places.
func TestProcessesEnrolTogether(t *testing.T) {
	t.Parallel()
	const processes, each, allowed = 3, 100, 13
	dir := t.TempDir()
	c := mustService(t, dir)
	key, err := c.AddKey(t.Context(), control.AccessKey{Name: "everyone", MaxDevices: allowed})
	if err != nil {
		t.Fatal(err)
	}
	type process struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Scanner
	}
	var running []process
	for range processes {
		cmd := child(t, "enrol", dir)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, process{cmd, in, bufio.NewScanner(out)})
	}
	for _, p := range running {
		if !p.out.Scan() || p.out.Text() != "ready" {
			t.Fatalf("the child says %q", p.out.Text())
		}
	}
	for _, p := range running {
		if _, err := io.WriteString(p.in, "go\n"); err != nil {
			t.Fatal(err)
		}
	}
	said := map[string]int{}
	for _, p := range running {
		for p.out.Scan() {
			said[p.out.Text()]++
		}
		if err := p.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if said["in"] != allowed || said["full"] != processes*each-allowed {
		t.Errorf("the children say %v; want %d in and %d full", said, allowed, processes*each-allowed)
	}
	found, err := c.Devices(t.Context(), control.DeviceFilter{KeyID: key.ID})
	if err != nil || len(found) != allowed {
		t.Errorf("the store has %d devices, %v; want %d", len(found), err, allowed)
	}
}

// childRevoke is what "godwit key revoke" does, in a process of its own.
func childRevoke(args []string) error {
	c, s, err := service(context.Background(), args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	return c.RevokeKey(context.Background(), args[1])
}

func TestRevokedByAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := mustService(t, dir)
	key, err := c.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: 1})
	if err != nil {
		t.Fatal(err)
	}
	k, err := device.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := c.Enrol(t.Context(), key.ID, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	cut := make(chan time.Time, 1) // one revocation, and a listener must not block
	c.OnRevoked(func(_ []device.ID, keys [][8]byte) {
		if len(keys) == 1 && keys[0] == key.ID {
			cut <- time.Now()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	if out, err := child(t, "revoke", dir, "anna").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	revoked := time.Now()
	select {
	case at := <-cut:
		t.Logf("cut %v after the other process had ended", at.Sub(revoked))
	case <-time.After(time.Second):
		t.Fatal("the live session would not have been cut within a second")
	}
	if _, err := c.Authorize(certificate, time.Now()); !errors.Is(err, control.ErrKeyRevoked) {
		t.Errorf("error is %v, want %v", err, control.ErrKeyRevoked)
	}
}
