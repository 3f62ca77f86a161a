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
		if *evidence == "" || r.Right() && r.Detail == "" {
			return
		}
		b, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			name := strings.NewReplacer(" ", "-", ",", "", ":", "", "%", "").Replace(r.Case)
			err = os.WriteFile(filepath.Join(*evidence, fmt.Sprintf("%s-%d.json", name, r.Seed)), b, 0o644)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "evidence: %v\n", err)
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
