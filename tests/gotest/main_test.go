package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun runs the real go test over a small module whose tests pass, skip, fail, panic and do not compile.
func TestRun(t *testing.T) {
	module := func(t *testing.T, files map[string]string) string {
		dir := t.TempDir()
		files["go.mod"] = "module example.test/m\n\ngo 1.26\n"
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	const pass = "package p\nimport \"testing\"\nfunc TestP(t *testing.T) { t.Log(\"quiet please\") }\n"
	const skips = `package s
import "testing"
func TestA(t *testing.T) { t.Skip("curl is not here: apt-get install curl") }
func TestB(t *testing.T) {
	t.Log("something before")
	t.Run("sub", func(t *testing.T) { t.Skip("no dig, no nft: apt-get install dnsutils nftables") })
}
`
	tests := []struct {
		name    string
		files   map[string]string
		code    int
		want    []string
		wantNot []string
	}{
		{"pass", map[string]string{"p/p_test.go": pass}, 0,
			[]string{"ok  \texample.test/m/p"}, []string{"quiet please", "skipped", "=== RUN", "PASS"}},
		{"skip", map[string]string{"p/p_test.go": pass, "s/s_test.go": skips}, 0,
			[]string{"ok  \texample.test/m/s", "\n2 skipped:\n", "curl is not here", "s.TestA\n", "s.TestB/sub\n",
				"apt-get install curl dnsutils nftables\n"},
			[]string{"something before"}},
		{"fail", map[string]string{"p/p_test.go": strings.Replace(pass, "t.Log", "t.Error", 1)}, 1,
			[]string{"--- FAIL: TestP", "quiet please", "FAIL\texample.test/m/p"}, nil},
		{"panic", map[string]string{"p/p_test.go": strings.Replace(pass, "t.Log", "panic", 1)}, 1,
			[]string{"panic: quiet please", "FAIL\texample.test/m/p"}, nil},
		{"does not compile", map[string]string{"p/p_test.go": strings.Replace(pass, "t.Log", "t.Lag", 1)}, 1,
			[]string{"t.Lag undefined", "FAIL\texample.test/m/p [build failed]"}, nil},
		{"nothing there", map[string]string{}, 1, nil, []string{"ok  "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(module(t, tt.files))
			t.Setenv("GOFLAGS", "-mod=mod")
			var out, errs bytes.Buffer
			args := []string{"./..."}
			if len(tt.files) == 1 {
				args = []string{"./absent"}
			}
			if code := run(t.Context(), args, &out, &errs); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q", want)
				}
			}
			for _, no := range tt.wantNot {
				if strings.Contains(out.String(), no) {
					t.Errorf("output has %q", no)
				}
			}
			if t.Failed() {
				t.Logf("stdout:\n%s\nstderr:\n%s", &out, &errs)
			}
		})
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	tests := []struct {
		said []string
		want string
	}{
		{[]string{"    x_test.go:3: no curl\n", "--- SKIP: TestX (0.00s)\n"}, "no curl"},
		{[]string{"    x_test.go:1: first\n", "    x-y_test.go:30: second: a.go:1: b\n", "    --- SKIP: TestX/sub (0.00s)\n"},
			"second: a.go:1: b"},
		{[]string{"--- SKIP: TestX (0.00s)\n"}, "no reason given"},
		{nil, "no reason given"},
	}
	for _, tt := range tests {
		if got := reason(tt.said); got != tt.want {
			t.Errorf("reason(%q) = %q, want %q", tt.said, got, tt.want)
		}
	}
}
