package lattice

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deps.txt instead of comparing with it")

const depsFile = "deps.txt"

const depsHead = `# Everything that is linked into cmd/godwit on Linux and is not Go's own: a module and its
# version, then its packages. A new line here is a person we trust from now on. Written by "make deps".
`

// linked is one package as go list prints it.
type linked struct {
	ImportPath string
	Dir        string
	Module     *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// linkedPackages lists what is linked into the binary, without the standard library.
func linkedPackages(t *testing.T) []linked {
	t.Helper()
	if files, err := filepath.Glob(filepath.Join("..", "..", "cmd", "godwit", "*.go")); err != nil || files == nil {
		t.Skip("cmd/godwit is not there")
	}
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Module", "./cmd/godwit")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	return decode(t, string(out))
}

func decode(t *testing.T, out string) []linked {
	t.Helper()
	var all []linked
	d := json.NewDecoder(strings.NewReader(out))
	for {
		var p linked
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module != nil { // the standard library has none
			all = append(all, p)
		}
	}
}

// list is the text of deps.txt for those packages.
func list(all []linked) string {
	byModule := map[string][]string{}
	for _, p := range all {
		m := p.Module.Path
		switch {
		case p.Module.Replace != nil:
			m += " " + p.Module.Version + " => " + p.Module.Replace.Path + " " + p.Module.Replace.Version
		case !p.Module.Main:
			m += " " + p.Module.Version
		}
		byModule[m] = append(byModule[m], p.ImportPath)
	}
	var b strings.Builder
	b.WriteString(depsHead)
	for _, m := range sortedKeys(byModule) {
		fmt.Fprintf(&b, "\n%s\n", m)
		slices.Sort(byModule[m])
		for _, p := range byModule[m] {
			fmt.Fprintf(&b, "\t%s\n", p)
		}
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestDeps compares what is linked with what was reviewed.
func TestDeps(t *testing.T) {
	t.Parallel()
	got := list(linkedPackages(t))
	if *update {
		if err := os.WriteFile(depsFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(depsFile)
	if err != nil {
		t.Fatalf("%v: write it with \"make deps\"", err)
	}
	if want := string(data); got != want {
		t.Errorf("the binary no longer links what %s says:\n%srun \"make deps\" and say in the commit why",
			depsFile, difference(want, got))
	}
}

// difference lists the lines that only one of two texts has.
func difference(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range w {
		if !slices.Contains(g, line) {
			fmt.Fprintf(&b, "- %s\n", strings.TrimSpace(line))
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			fmt.Fprintf(&b, "+ %s\n", strings.TrimSpace(line))
		}
	}
	return b.String()
}

// copyleft matches the title lines of the licences whose terms the binary as a whole would have to take on.
var copyleft = regexp.MustCompile(`(?i)(gnu (affero |lesser |library )?general|mozilla|eclipse|european union|` +
	`server side) public licen[cs]e`)

// A module's list of other people's licences is not read: those that are linked are modules of their own, and are here.
var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)
	othersFile  = regexp.MustCompile(`(?i)3rd|third`)
)

// TestLicences reads the licence of every module linked into the binary: each has one, and none is copyleft.
func TestLicences(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range linkedPackages(t) {
		m := p.Module.Path
		if seen[m] || p.Module.Main {
			continue
		}
		seen[m] = true
		dir := p.Module.Dir
		if r := p.Module.Replace; r != nil {
			dir = r.Dir
		}
		if wrong := licence(dir); wrong != "" {
			t.Errorf("%s: %s", m, wrong)
		}
	}
}

// licence says what is wrong with the licence of the module in dir, or returns "".
func licence(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) || othersFile.MatchString(e.Name()) {
			continue
		}
		found = true
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err.Error()
		}
		if title := copyleft.Find(text); title != nil {
			return fmt.Sprintf("%s says %q: it cannot be linked into an Apache-2.0 binary", e.Name(), title)
		}
	}
	if !found {
		return "has no licence file, so nobody may distribute it"
	}
	return ""
}

// TestLicenceCheck shows that the check can fail.
func TestLicenceCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, text string
		ok               bool
	}{
		{"ours", "", "", true},
		{"gpl", "COPYING", "\n                    GNU GENERAL PUBLIC LICENSE\n", false},
		{"agpl", "LICENSE.md", "# GNU Affero General Public License", false},
		{"mpl", "LICENSE", "Mozilla Public License, version 2.0", false},
		{"others' only", "LICENSE-3RD-PARTY.md", "MIT", false},
		{"none", "README", "free for all", false},
		{"mit", "LICENSE-MIT", "Permission is hereby granted", true},
	}
	for _, tt := range tests {
		dir := filepath.Join("..", "..")
		if tt.file != "" {
			dir = t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if wrong := licence(dir); (wrong == "") != tt.ok {
			t.Errorf("%s: %q, want ok %v", tt.name, wrong, tt.ok)
		}
	}
}

// TestList shows the list's form, a replaced module's line among it, on what go list printed for a small program.
func TestList(t *testing.T) {
	t.Parallel()
	const out = `{"ImportPath":"errors"}
{"ImportPath":"example.test/a/y","Module":{"Path":"example.test/a","Version":"v1.2.3"}}
{"ImportPath":"example.test/a","Module":{"Path":"example.test/a","Version":"v1.2.3"}}
{"ImportPath":"example.test/b","Module":{"Path":"example.test/b","Version":"v1.0.0","Replace":{"Path":"../b"}}}
{"ImportPath":"example.test/m","Module":{"Path":"example.test/m","Main":true}}
`
	want := depsHead + `
example.test/a v1.2.3
	example.test/a
	example.test/a/y

example.test/b v1.0.0 => ../b ` + `
	example.test/b

example.test/m
	example.test/m
`
	if got := list(decode(t, out)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got, want := difference("a\nb\n", "a\nc\n"), "- b\n+ c\n"; got != want {
		t.Errorf("difference = %q, want %q", got, want)
	}
}
