package rules

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

const (
	// maxFile and maxEntries keep a wrong file, such as an archive, from filling memory.
	maxFile    = 64 << 20
	maxEntries = 2_000_000
	maxRules   = 10_000
)

// Error says what is wrong where in which file.
type Error struct {
	File string
	Line int // 0: the file as a whole
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// What a file of rules holds. Each text says itself what is wrong with it, so that the line is known.
type (
	textFile struct {
		Default Action     `toml:"default"`
		Rules   []textRule `toml:"rule"`
	}
	textRule struct {
		Name    string      `toml:"name"`
		Action  *Action     `toml:"action"`
		Domains []domain    `toml:"domains"`
		CIDRs   []cidr      `toml:"cidrs"`
		Files   []string    `toml:"files"`
		Ports   []portRange `toml:"ports"`
		Users   []uid       `toml:"users"`
		Cgroups []cgroup    `toml:"cgroups"`
	}
	domain destination
	cidr   destination
	uid    uint32
	cgroup struct{ path string }
)

func (d *domain) UnmarshalText(b []byte) (err error) {
	*(*destination)(d), err = parseDomain(string(b))
	return err
}

func (c *cidr) UnmarshalText(b []byte) (err error) {
	c.prefix, err = parsePrefix(string(b))
	return err
}

func (u *uid) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil {
		found, lookErr := user.Lookup(string(b))
		if lookErr != nil {
			return fmt.Errorf("this machine has no user %.40q", b)
		}
		if n, err = strconv.ParseUint(found.Uid, 10, 32); err != nil {
			return fmt.Errorf("user %.40q has no number on this system", b)
		}
	}
	*u = uid(n)
	return nil
}

func (c *cgroup) UnmarshalText(b []byte) error {
	if s := string(b); !strings.HasPrefix(s, "/") || path.Clean(s) != s {
		return fmt.Errorf("%.60q is not a control group: write its path from the root of cgroup2, as in /proc/PID/cgroup, such as "+
			"/user.slice", b)
	}
	c.path = string(b)
	return nil
}

// Load reads a file of rules, and the lists that it names beside it.
func Load(file string) (*Set, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, text, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(file), name)
		}
		return readFile(name)
	})
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, &Error{File: path, Err: fmt.Errorf("it is no file of at most %d MiB", maxFile>>20)}
	}
	return os.ReadFile(path)
}

// Parse reads the text of a file of rules. read returns the lists that it names.
func Parse(path string, text []byte, read func(name string) ([]byte, error)) (*Set, error) {
	var f textFile
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, tomlError(path, err)
	}
	if len(f.Rules) > maxRules {
		return nil, &Error{File: path, Err: fmt.Errorf("it has %d rules; %d are the most", len(f.Rules), maxRules)}
	}
	lines := ruleLines(text)
	s := &Set{Default: f.Default, files: []string{path}}
	numbers := map[string]int{} // of files
	contents := map[string][]byte{}
	for i, t := range f.Rules {
		r := &Rule{Name: t.Name, Number: i + 1, ports: t.Ports}
		if i < len(lines) {
			r.Line = lines[i]
		}
		fail := func(format string, args ...any) (*Set, error) {
			return nil, &Error{File: path, Line: r.Line, Err: fmt.Errorf("%v: %w", r, fmt.Errorf(format, args...))}
		}
		if t.Action == nil {
			return fail("action is missing: tunnel, direct or block")
		}
		r.Action = *t.Action
		for _, u := range t.Users {
			r.users = append(r.users, uint32(u))
		}
		for _, g := range t.Cgroups {
			r.cgroups = append(r.cgroups, g.path)
		}
		s.Owners = s.Owners || len(r.users)+len(r.cgroups) > 0
		if len(t.Domains)+len(t.CIDRs)+len(t.Files) > 0 {
			r.to = newSet()
		} else if len(r.ports)+len(r.users)+len(r.cgroups) == 0 {
			return fail("it says nothing of what it is for: give it domains, cidrs, files, ports, users or cgroups; " +
				"for all that no rule matches there is default")
		}
		for _, d := range t.Domains {
			r.to.add(destination(d), newOrigin(0, r.Line))
		}
		for _, c := range t.CIDRs {
			r.to.add(destination(c), newOrigin(0, r.Line))
		}
		for _, name := range t.Files {
			if numbers[name] == 0 {
				b, err := read(name)
				if err != nil {
					return fail("files: %w", err)
				}
				numbers[name], contents[name] = len(s.files), b
				s.files = append(s.files, name)
			}
			if err := list(r.to, name, string(contents[name]), numbers[name]); err != nil {
				return nil, err
			}
		}
		if r.to != nil {
			r.to.finish()
			s.Entries += r.to.len()
		}
		if s.Entries > maxEntries {
			return fail("there are more than %d entries", maxEntries)
		}
		s.Rules = append(s.Rules, r)
	}
	return s, nil
}

// list reads a list of destinations into a set. In each line is a domain, with all that is below it, or that name alone
// if it begins with "="; a prefix; or an address. What is behind a # is a comment.
func list(s *set, path, text string, file int) error {
	line := 0
	for l := range strings.Lines(text) {
		line++
		if i := strings.IndexByte(l, '#'); i >= 0 {
			l = l[:i]
		}
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		d, err := parseDestination(l)
		if err != nil {
			return &Error{File: path, Line: line, Err: err}
		}
		s.add(d, newOrigin(file, line))
		if s.len() > maxEntries {
			return &Error{File: path, Line: line, Err: fmt.Errorf("there are more than %d entries", maxEntries)}
		}
	}
	return nil
}

func tomlError(path string, err error) error {
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		row, _ := unknown.Errors[0].Position()
		return &Error{path, row, fmt.Errorf("there is no field %q", strings.Join(unknown.Errors[0].Key(), "."))}
	case errors.As(err, &bad):
		row, _ := bad.Position()
		return &Error{path, row, errors.New(strings.TrimPrefix(bad.Error(), "toml: "))}
	}
	return &Error{path, 0, err}
}

// ruleLines are the lines in which rules begin.
func ruleLines(text []byte) (lines []int) {
	line := 0
	for l := range bytes.Lines(text) {
		line++
		l = bytes.TrimSpace(l)
		if inner, ok := bytes.CutPrefix(l, []byte("[[")); ok && bytes.HasPrefix(bytes.TrimSpace(inner), []byte("rule")) {
			lines = append(lines, line)
		}
	}
	return lines
}
