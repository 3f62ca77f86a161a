package cli

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
)

func TestGatewayInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "gateway")
	r := try(t, nil, "gateway", "init", "--state-dir", dir, "--endpoint", "gw.example", "--json").want(t, 0)
	first := document[initDoc](t, r, "godwit.gateway.init/1")
	if !first.Created || first.StateDir != dir || len(first.Endpoints) != 1 ||
		first.Endpoints[0] != "gw.example:443" || first.BBR.Note == "" {
		t.Errorf("%+v", first)
	}
	if k, err := accesskey.Parse(first.Key); err != nil || k.Endpoints[0].Host != "gw.example" {
		t.Errorf("the key is %v, %v", k, err)
	}
	again := document[initDoc](t, try(t, nil, "gateway", "init", "--state-dir", dir, "--json"), "godwit.gateway.init/1")
	if again.Created || again.Key != first.Key {
		t.Errorf("the second time: %+v", again)
	}
	text := try(t, nil, "gateway", "init", "--state-dir", dir).want(t, 0, "was here already", first.Key,
		"godwit gateway run")
	if strings.Contains(text.stdout, "▀") || strings.Contains(text.stdout, "\x1b") {
		t.Errorf("a QR code or colours for something that is no terminal:\n%s", text.stdout)
	}
	private := try(t, nil, "gateway", "init", "--state-dir", dir, "--endpoint", "10.0.0.1").want(t, 0,
		"cannot be reached from the internet")
	if strings.Contains(private.stdout, first.Key) {
		t.Error("another endpoint, and the key is the same")
	}
	try(t, nil, "key", "revoke", "first", "--state-dir", dir).want(t, 0)
	try(t, nil, "gateway", "init", "--state-dir", dir).want(t, 0, "has been revoked")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	key := func(code int, args ...string) ran {
		return try(t, nil, append(args, "--state-dir", w.state)...).want(t, code)
	}
	added := key(0, "key", "add", "мама", "--devices", "2", "--expires", "30d")
	if added.stdout != strings.TrimSpace(added.stdout)+"\n" || added.stderr != "" {
		t.Errorf("key add says %q and %q, want the key alone", added.stdout, added.stderr)
	}
	parsed, err := accesskey.Parse(added.stdout)
	if err != nil || parsed.Label != "мама" {
		t.Errorf("key add printed %v, %v", parsed, err)
	}
	if shown := key(0, "key", "show", "мама"); shown.stdout != added.stdout {
		t.Error("key show prints another key")
	}
	doc := document[keyDoc](t, key(0, "key", "show", "мама", "--json"), "godwit.key/1")
	if doc.Key+"\n" != added.stdout || doc.ID != parsed.ID.String() || doc.MaxDevices != 2 || doc.State != "good" ||
		doc.Expires == nil || time.Until(*doc.Expires) < 29*24*time.Hour {
		t.Errorf("%+v", doc)
	}
	list := document[struct{ Keys []keyDoc }](t, key(0, "key", "list", "--json"), "godwit.key.list/1")
	if len(list.Keys) != 2 || list.Keys[0].Name != "first" || list.Keys[0].Key != "" || list.Keys[0].Expires != nil {
		t.Errorf("%+v", list)
	}
	if first := list.Keys[0]; first.MonthLimit != nil || first.MonthBytes != 0 {
		t.Errorf("a key without a limit: %+v", first)
	}
	key(0, "key", "add", "capped", "--limit", "100GiB")
	capped := document[keyDoc](t, key(0, "key", "show", "capped", "--json"), "godwit.key/1")
	if capped.MonthLimit == nil || *capped.MonthLimit != 100<<30 || capped.MonthBytes != 0 {
		t.Errorf("a key with a limit: %+v", capped)
	}
	key(0, "key", "list").want(t, 0, "THIS MONTH", "0 B of 107 GB")
	key(2, "key", "add", "y", "--limit", "100").want(t, 2, `--limit: "100"`, "100GB")
	key(1, "key", "add", "мама").want(t, 1, "another access key has this name")
	key(2, "key", "add", "").want(t, 2, "not a usable name")
	key(2, "key", "add", "x\x1b[31m").want(t, 2, "not a usable name")
	key(2, "key", "add", "x", "--devices", "0").want(t, 2, "devices")
	key(1, "key", "show", "nobody").want(t, 1, `"nobody"`, "godwit key list")

	picture := filepath.Join(t.TempDir(), "key.png")
	key(0, "key", "show", "мама", "--png", picture)
	if info, err := os.Stat(picture); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the picture: %v, %v", info, err)
	}
	key(1, "key", "show", "мама", "--png", picture).want(t, 1, "--png", "exists")

	key(0, "key", "revoke", "мама").want(t, 0, "is revoked")
	key(0, "key", "revoke", "мама").want(t, 0, "revoked already")
	key(1, "key", "show", "мама").want(t, 1, "opens nothing")
	if doc := document[keyDoc](t, key(0, "key", "show", "мама", "--json"), "godwit.key/1"); doc.State != "revoked" ||
		doc.Key != "" {
		t.Errorf("revoked: %+v", doc)
	}
	key(0, "key", "list").want(t, 0, "revoked")
	key(0, "key", "add", "мама") // the name is free
	key(1, "device", "list", "--key", "nobody").want(t, 1, "--key")
	if r := key(0, "device", "list"); strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("devices of nobody:\n%s", r.stdout)
	}
	key(2, "device", "revoke", "xyz").want(t, 2, "device id")
	key(1, "device", "revoke", "0123456789abcdef").want(t, 1, "no such device")
}

func TestNoGateway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{{"gateway", "run"}, {"key", "list"}, {"key", "add", "x"}, {"device", "list"},
		{"config", "check"}} {
		try(t, nil, append(args, "--state-dir", dir)...).want(t, exitConfig, "godwit gateway init")
	}
	try(t, nil, "gateway", "status", "--state-dir", dir).want(t, exitNotRunning, dir)
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	try(t, nil, "config", "check", "--state-dir", w.state).want(t, 0, w.addr)
	file := filepath.Join(t.TempDir(), "gateway.toml")
	const good = "listen = [':443']\nendpoints = ['gw.example:443']\n"
	for text, want := range map[string]string{
		good + "congesion = 'bbr'\n":     "congesion",
		good + "memory_mib = 1\n":        "field memory_mib",
		good + "[egress]\nallow = ['x']": "field egress.allow",
		"listen = 443\n":                 "line 1",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		try(t, nil, "config", "check", file).want(t, exitConfig, want, file)
		try(t, nil, "gateway", "run", "--state-dir", w.state, "--config", file).want(t, exitConfig, want)
	}
	try(t, nil, "config", "check", file+".not").want(t, 1, "no such file")
}

func TestGatewayRun(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	r := try(t, nil, "gateway", "status", "--state-dir", w.state, "--json").want(t, 0)
	doc := document[gatewayDoc](t, r, "godwit.gateway.status/1")
	if doc.PID != os.Getpid() || doc.Listening[0] != w.addr || doc.Endpoints[0] != w.addr || doc.MemoryMax == 0 ||
		doc.ProcessMemory == 0 {
		t.Errorf("%+v", doc)
	}
	try(t, nil, "gateway", "status", "--state-dir", w.state).want(t, 0, "running", w.addr, "congestion", "refused")
	try(t, nil, "gateway", "run", "--state-dir", w.state).want(t, 1, "runs already", "end that one")
	other := newGateway(t)
	try(t, nil, "gateway", "run", "--state-dir", other.state, "--listen", w.addr).want(t, 1, "--listen", "taken",
		"ss -ltnp")
	// The settings are to blame where they named the port.
	try(t, nil, "gateway", "init", "--state-dir", filepath.Join(other.state, "x"), "--endpoint", w.addr).want(t, 0)
	try(t, nil, "gateway", "run", "--state-dir", filepath.Join(other.state, "x")).want(t, 1, "field listen", "taken")
}

func TestExposedKeys(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("permission bits say nothing on Windows")
	}
	w := newGateway(t)
	if err := os.Chmod(filepath.Join(w.state, "keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	try(t, nil, "gateway", "run", "--state-dir", w.state).want(t, exitPermission, "chmod 700")
}

func TestExitIsEntry(t *testing.T) {
	t.Parallel()
	none := netip.Addr{}
	v4, v6 := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")
	private := netip.MustParseAddr("10.0.0.7")
	for _, tt := range []struct {
		endpoints string
		v4, v6    netip.Addr
		want      string
	}{
		{"203.0.113.7:443", v4, none, "same"},
		{"203.0.113.7:443", v4, v6, "same"},
		{"203.0.113.8:443", v4, none, "other"},
		{"[2001:db8::7]:443", v4, v6, "same"},
		{"[2001:db8::8]:443", none, v6, "other"},
		{"203.0.113.8:443 [2001:db8::7]:443", v4, v6, "same"},
		{"203.0.113.8:443", private, none, "unknown"}, // behind a router
		{"203.0.113.8:443", none, none, "unknown"},
		{"203.0.113.8:443", none, v6, "unknown"},
		{"gw.example:443", v4, none, "unknown"},
		{"10.0.0.7:443", private, none, "same"},
	} {
		got := "unknown"
		if p := exitIsEntry(strings.Fields(tt.endpoints), tt.v4, tt.v6); p != nil {
			got = map[bool]string{true: "same", false: "other"}[*p]
		}
		if got != tt.want {
			t.Errorf("endpoints %s, exits %v %v: %s, want %s", tt.endpoints, tt.v4, tt.v6, got, tt.want)
		}
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no datagram sockets")
	}
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	(&app{env: func(n string) string { return map[string]string{"NOTIFY_SOCKET": path}[n] }}).notify("READY=1")
	l.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 100)
	n, err := l.Read(b)
	if string(b[:n]) != "READY=1" || err != nil {
		t.Errorf("heard %q, %v", b[:n], err)
	}
	(&app{env: func(string) string { return "/no/such/socket" }}).notify("READY=1") // nobody there: no harm
}
