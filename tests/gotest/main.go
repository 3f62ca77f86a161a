// Gotest is "go test" that ends with what it did not test: every skipped test, why it was skipped, and the one command
// that installs what was missing. The lines before are go test's own.
//
//	go run ./tests/gotest [go test's flags] ./...
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns go test's exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(stderr, "gotest:", err)
		return 1
	}
	// An interrupt from the terminal reaches go test too; it is for go test to end its tests, and for us to wait.
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer stop()

	skipped, readErr := report(out, stdout)
	err = cmd.Wait()
	skipped.print(stdout)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	case err != nil || readErr != nil:
		fmt.Fprintln(stderr, "gotest:", errors.Join(err, readErr))
		return 1
	}
	return 0
}

// event is one line of "go doc test2json", or of a failing build.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// skip is one test that was not run.
type skip struct{ pkg, test, reason string }

type skips []skip

// report copies the event stream r to w as go test would have printed it without -json and -v: a line per package, and
// everything a failing test said.
func report(r io.Reader, w io.Writer) (skips, error) {
	var found skips
	said := map[string][]string{} // what each unfinished test has printed, by package and name
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(w, lines.Text()) // not from a test: go's own complaint
			continue
		}
		key := e.Package + " " + e.Test
		switch {
		case e.Action == "build-output":
			fmt.Fprint(w, e.Output)
		case e.Action == "output" && e.Test == "":
			if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "testing: warning: no tests to run") {
				fmt.Fprint(w, e.Output)
			}
		case e.Action == "output":
			if !strings.HasPrefix(e.Output, "=== ") {
				said[key] = append(said[key], e.Output)
			}
		case e.Action == "skip" && e.Test != "":
			found = append(found, skip{e.Package, e.Test, reason(said[key])})
			delete(said, key)
		case e.Action == "fail" && e.Test != "":
			fmt.Fprint(w, strings.Join(said[key], ""))
			delete(said, key)
		case e.Action == "pass" && e.Test != "":
			delete(said, key)
		case e.Action == "fail":
			// A panic or a timeout ends the package in the middle of a test: what it said is the reason.
			for _, k := range slices.Sorted(maps.Keys(said)) {
				if strings.HasPrefix(k, e.Package+" ") {
					fmt.Fprint(w, strings.Join(said[k], ""))
					delete(said, k)
				}
			}
		}
	}
	return found, lines.Err()
}

var place = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)

// reason takes the last thing a test said before its "--- SKIP" line.
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		if text := strings.TrimSpace(place.ReplaceAllString(line, "")); text != "" && !strings.HasPrefix(text, "--- ") {
			return text
		}
	}
	return "no reason given"
}

var install = regexp.MustCompile(`apt(?:-get)? install ((?:[a-z0-9][a-z0-9+.-]*[a-z0-9+] ?)+)`)

// print groups the skips by reason and says once what to install.
func (s skips) print(w io.Writer) {
	if len(s) == 0 {
		return
	}
	byReason := map[string][]string{}
	packages := map[string]bool{}
	for _, k := range s {
		pkg := k.pkg[strings.LastIndexByte(k.pkg, '/')+1:]
		byReason[k.reason] = append(byReason[k.reason], pkg+"."+k.test)
		for _, m := range install.FindAllStringSubmatch(k.reason, -1) {
			for _, p := range strings.Fields(m[1]) {
				packages[p] = true
			}
		}
	}
	fmt.Fprintf(w, "\n%d skipped:\n", len(s))
	for _, why := range slices.Sorted(maps.Keys(byReason)) {
		fmt.Fprintf(w, "  %s\n", why)
		for _, test := range byReason[why] {
			fmt.Fprintf(w, "      %s\n", test)
		}
	}
	if len(packages) > 0 {
		fmt.Fprintf(w, "\nTo run them too:  sudo apt-get install %s\n",
			strings.Join(slices.Sorted(maps.Keys(packages)), " "))
	}
}
