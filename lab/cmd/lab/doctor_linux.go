package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	examined "github.com/godwit-vpn/godwit/internal/doctor"
	"github.com/godwit-vpn/godwit/lab/doctor"
	"github.com/godwit-vpn/godwit/lab/verbs"
)

// The lines between which docs/doctor.md has the table.
const (
	tableBegins = "<!-- lab doctor writes from here -->\n"
	tableEnds   = "<!-- to here -->\n"
)

func doctorCommand(ctx context.Context, args []string, inside bool) (int, error) {
	fs := flag.NewFlagSet("doctor", flag.ContinueOnError)
	seeds := fs.Int("seeds", 20, "runs of each case, each with other parameters")
	seed := fs.Uint64("seed", 1, "the first one's seed")
	only := fs.String("cases", "", "only those whose names have this in them")
	parallel := fs.Int("parallel", 16, "runs at once: they mostly wait")
	godwit := fs.String("godwit", "bin/godwit", "path of the godwit program, for the gateway")
	out := fs.String("out", "", "file to write the table into, between its two marks, such as docs/doctor.md; without it it is printed")
	evidence := fs.String("evidence", "", "directory for the reports of what went wrong")
	record := fs.String("record", "", "directory for what was seen where all was named rightly: internal/doctor/testdata is made of that")
	if err := fs.Parse(args); err != nil {
		return verbs.ExitUsage, err
	}
	if fs.NArg() > 0 {
		return verbs.ExitUsage, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if *seeds < 1 || *parallel < 1 {
		return verbs.ExitUsage, errors.New("--seeds and --parallel want a number from 1 on")
	}
	path, err := filepath.Abs(*godwit)
	if err != nil {
		return verbs.ExitError, err
	}
	if _, err := os.Stat(path); err != nil {
		return verbs.ExitUsage, fmt.Errorf("--godwit: %w: 'make build' makes it", err)
	}
	if !inside {
		return enter(ctx)
	}
	cases := slices.DeleteFunc(doctor.Cases(), func(c doctor.Case) bool { return !strings.Contains(c.Name, *only) })
	done := 0
	all := doctor.RunAll(ctx, cases, *seeds, *seed, *parallel, path, func(r *doctor.Result) {
		done++
		fmt.Fprintf(os.Stderr, "%d of %d, %.0f s: %s\n", done, len(cases)**seeds, r.Took.Seconds(), r)
		var err error
		if wrong := !r.Right() || r.Detail != ""; wrong && *evidence != "" {
			err = write(*evidence, r, r)
		} else if !wrong && *record != "" {
			err = write(*record, r, recording{r.Case, r.Found, r.Report.Evidence})
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		}
	})
	var table bytes.Buffer
	doctor.Table(&table, cases, all)
	if *out == "" {
		_, err := os.Stdout.Write(table.Bytes())
		return 0, errors.Join(ctx.Err(), err)
	}
	old, err := os.ReadFile(*out)
	if err != nil {
		return verbs.ExitError, err
	}
	before, rest, ok := strings.Cut(string(old), tableBegins)
	_, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok || !ok2 {
		return verbs.ExitError, fmt.Errorf("%s: has no lines %q and %q to write between", *out, strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds))
	}
	return 0, errors.Join(ctx.Err(), os.WriteFile(*out, []byte(before+tableBegins+table.String()+tableEnds+after), 0o644))
}

// recording is a case, what was found, and what it was found by.
type recording struct {
	Case         string                 `json:"case"`
	Found        []examined.Kind        `json:"found"`
	Observations *examined.Observations `json:"observations"`
}

// write writes what a run came to into a file of its own.
func write(dir string, r *doctor.Result, what any) error {
	b, err := json.Marshal(what)
	if err != nil {
		return err
	}
	name := strings.NewReplacer(" ", "-", ",", "", ":", "", "%", "", "'", "").Replace(r.Case)
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.json", name, r.Seed)), append(b, '\n'), 0o644)
}
