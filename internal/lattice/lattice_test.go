// Package lattice holds the shape of the program: which of its packages may import which, and the list of everything
// that is linked into the binary. It has no code; its tests fail when the shape changes unseen.
//
//	cmd → internal/cli → client, gateway, console, store → session → link → wire, flow, transport
//
// The idea is that of Go's own go/build/deps_test.go.
package lattice

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/godwit-vpn/godwit"

// A rule says what the packages under a prefix may import of ours, besides leaves and packages under the same prefix.
type rule struct {
	from string
	may  string // prefixes, separated by spaces
}

// rules is the lattice, from the bottom up. The longest matching prefix counts.
//
// A package that is not here is a leaf: it imports nothing of ours but what is below it, and everyone may import it. So
// a new leaf needs no line, and a package that grows an import either did not need it or gets a line that a reviewer
// sees.
var rules = []rule{
	// The contracts.
	{"internal/flow", ""},
	{"internal/transport", ""},
	{"internal/transport/transporttest", "internal/transport"},
	{"internal/wire", "internal/flow"},

	// What carries: a link knows the contract of transports, a session knows links; neither names a transport.
	{"internal/transports", "internal/transport internal/dnsclient"},
	{"internal/link", "internal/wire internal/flow internal/transport"},
	{"internal/session", "internal/link internal/wire internal/flow internal/transport"},
	{"internal/dialer", ""},

	// Asks resolvers, in the TLS of a browser.
	{"internal/dnsclient", "internal/transport internal/transports/https/chrome"},

	// What feeds and drains: they meet a session only as a flow.
	{"internal/capture", "internal/flow"},
	{"internal/udpport", "internal/flow"},
	{"internal/egress", "internal/flow internal/dnsclient"},
	{"internal/names", "internal/flow internal/dnsclient"},

	// What knows devices, keys and gateways. Control has the rules and no SQL; store has the SQL.
	{"internal/control", ""},
	{"internal/store", "internal/control"},
	{"internal/console", "internal/control"},

	// What is one process's alone, which a lock on a file says.
	{"internal/local", ""},
	{"internal/hostnet", ""},
	{"internal/hostnet/forwarding", "internal/hostnet/iface internal/hostnet/kept internal/hostnet/nft internal/hostnet/sysctl"},

	// The two ends, and the program.
	{"client", "internal/capture internal/dialer internal/dnsclient internal/egress internal/flow internal/hostnet internal/link " +
		"internal/names internal/session " +
		"internal/transport internal/transports internal/udpport internal/wire"},
	{"internal/gateway", "internal/control internal/egress internal/flow internal/link internal/session " +
		"internal/transport internal/transports internal/wire"},
	{"internal/relay", "internal/link internal/transport internal/transports"},
	{"internal/gatewaydir", "internal/control internal/dnsclient internal/egress internal/flow internal/gateway " +
		"internal/link internal/relay internal/store internal/transport internal/transports"},
	{"internal/survey", "internal/flow internal/link internal/session internal/transport internal/transports internal/wire"},
	{"internal/doctor", "internal/dialer internal/transport internal/transports"},
	{"internal/keyinput", ""},
	{"internal/demo", "client internal/control internal/flow internal/gateway internal/gatewaydir internal/store " +
		"internal/transport"},
	{"internal/cli", "client internal/capture internal/console internal/control internal/demo internal/dialer " +
		"internal/doctor internal/egress internal/flow internal/gateway internal/gatewaydir internal/hostnet internal/keyinput " +
		"internal/local internal/relay internal/store internal/survey internal/transport internal/transports"},
	{"cmd", "internal/cli"},

	// What measures the product may use all of it; the product uses none of these.
	{"bench", "lab " + product},
	{"lab", product},
	{"tests", ""},
	{"tests/sessions", "internal/control internal/flow internal/gatewaydir internal/link internal/transport " +
		"internal/transports internal/wire"},
}

// product is what those who measure it may use: all but the verbs.
const product = "client internal/capture internal/control internal/dialer internal/doctor internal/egress internal/flow " +
	"internal/gateway internal/gatewaydir internal/link internal/session internal/store internal/transport " +
	"internal/transports internal/udpport internal/wire"

// never are the edges that no rule may add, directly or by way of others.
var never = []rule{
	{"internal/flow", "internal client"},
	{"internal/wire", "internal/transport internal/link internal/session internal/transports"},
	{"internal/session", "internal/transports internal/capture internal/egress internal/control internal/store client"},
	{"internal/link", "internal/transports internal/session"},
	{"internal/transports", "internal/session internal/link internal/wire internal/control"},
	{"internal/capture", "internal/session internal/link internal/wire internal/transport internal/transports"},
	{"internal/control", "internal/store internal/gateway client"},
	{"client", "internal/gateway internal/control internal/store internal/console internal/cli"},
	{"internal/gateway", "client internal/capture internal/hostnet internal/console internal/cli"},
	{"internal/gatewaydir", "client internal/capture internal/hostnet internal/console internal/cli"},
	{"cmd", "lab bench tests"},
	{"client", "lab bench tests"},
	{"internal", "lab bench tests cmd"},
}

// under reports whether the package is at or below the prefix.
func under(pkg, prefix string) bool { return pkg == prefix || strings.HasPrefix(pkg, prefix+"/") }

func underAny(pkg, prefixes string) bool {
	return slices.ContainsFunc(strings.Fields(prefixes), func(p string) bool { return under(pkg, p) })
}

// ruleFor finds the longest rule for a package.
func ruleFor(pkg string) (best rule, ok bool) {
	for _, r := range rules {
		if under(pkg, r.from) && len(r.from) >= len(best.from) {
			best, ok = r, true
		}
	}
	return best, ok
}

// family is the package's directory right below the root, or right below internal.
func family(pkg string) string {
	parts := strings.Split(pkg, "/")
	return strings.Join(parts[:min(len(parts), 1+strings.Count("internal/", parts[0]+"/"))], "/")
}

// check says what is wrong with one import, or returns "".
func check(pkg, imp string) string {
	if under(imp, "internal/cli") && !under(pkg, "cmd") && !under(pkg, "internal/cli") {
		return fmt.Sprintf("%s imports %s: nobody but cmd imports the CLI; move what is wanted out of it", pkg, imp)
	}
	r, listed := ruleFor(pkg)
	if !listed && family(imp) == family(pkg) {
		return ""
	}
	if !listed {
		return fmt.Sprintf("%s imports %s, but a package without a rule in internal/lattice is a leaf and imports nothing "+
			"of ours: move the code rather than write the rule, or write it if the package has earned one", pkg, imp)
	}
	if _, impListed := ruleFor(imp); !impListed || under(imp, r.from) || underAny(imp, r.may) {
		return ""
	}
	return fmt.Sprintf("%s imports %s, which the rule for %s does not allow (%s): move the code rather than the rule",
		pkg, imp, r.from, r.may)
}

// imports maps every package of this module to what it imports of this module. It reads the files of every platform,
// and leaves tests out: a test may use whatever shows that the code is right.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || hasModule(path)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		found[pkg] = append(found[pkg], nil...)
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(imp, module+"/"); ok && !slices.Contains(found[pkg], ours) {
				found[pkg] = append(found[pkg], ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func hasModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// TestImports holds every import in the tree against the rules.
func TestImports(t *testing.T) {
	t.Parallel()
	found := imports(t)
	if len(found) < 3 {
		t.Fatalf("found only %d packages: is this the module's root?", len(found))
	}
	for pkg, imps := range found {
		for _, imp := range imps {
			if wrong := check(pkg, imp); wrong != "" {
				t.Error(wrong)
			}
		}
	}
}

// TestRules holds the rules against what must never become possible, however long the way.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, n := range never {
		for _, r := range rules {
			if !under(r.from, n.from) {
				continue
			}
			for reached, way := range closure(r.from) {
				if underAny(reached, n.may) && !under(reached, r.from) {
					t.Errorf("the rules let %s reach %s by way of %s: move the code rather than the rule",
						r.from, reached, strings.Join(way, " → "))
				}
			}
		}
	}
}

// closure maps everything that the rules let a package import, directly or not, to the way there.
func closure(from string) map[string][]string {
	ways := map[string][]string{}
	var visit func(pkg string, way []string)
	visit = func(pkg string, way []string) {
		r, _ := ruleFor(pkg)
		for _, p := range strings.Fields(r.may) {
			if ways[p] == nil {
				ways[p] = append(slices.Clone(way), p)
				visit(p, ways[p])
			}
		}
	}
	visit(from, []string{from})
	return ways
}

// TestCheck shows that the check can fail.
func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pkg, imp string
		ok       bool
	}{
		{"cmd/godwit", "internal/cli", true},
		{"internal/session", "internal/link", true},
		{"internal/session", "internal/some_leaf", true},
		{"internal/transports/quic", "internal/transports/pipe", true},
		{"internal/capture/proxy", "internal/flow", true},
		{"internal/session", "internal/transports/https", false},
		{"internal/session", "internal/transportsx", true}, // another name, not a transport
		{"internal/transports/https", "internal/session", false},
		{"internal/capture/proxy", "internal/session", false},
		{"internal/capture/tun", "internal/wire", false},
		{"internal/gateway", "internal/cli", false},
		{"internal/gateway", "lab/firewall", false},
		{"client", "bench", false},
		{"internal/hostnet/forwarding", "internal/hostnet", false},
		{"internal/hostnet/forwarding", "internal/hostnet/nft", true},
		{"lab/scenario", "client", true},
		{"lab/scenario", "internal/cli", false},
		{"internal/some_leaf", "internal/some_leaf/file", true},
		{"internal/some_leaf", "internal/other_leaf", false},
		{"internal/some_leaf", "internal/flow", false},
	}
	for _, tt := range tests {
		if wrong := check(tt.pkg, tt.imp); (wrong == "") != tt.ok {
			t.Errorf("check(%q, %q) = %q, want ok %v", tt.pkg, tt.imp, wrong, tt.ok)
		}
	}
}
