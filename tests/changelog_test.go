package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	changeTitle = regexp.MustCompile(`^(Security|Change|Bugfix|Enhancement): [A-Z].*[^.\s]$`)
	changeLink  = regexp.MustCompile(`^https://\S+$`)
)

// wrongChange says what an entry of the changelog lacks, or returns "".
func wrongChange(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	switch {
	case !changeTitle.MatchString(lines[0]):
		return "the first line is not a kind, a colon and a sentence without a full stop"
	case len(lines) < 3 || lines[1] != "":
		return "the second line is not empty"
	case !strings.Contains(text, "\nWhat to do: "):
		return `no paragraph begins with "What to do: "`
	}
	links := false
	for _, line := range lines {
		links = links || changeLink.MatchString(line)
		switch {
		case len(line) > 120:
			return "a line is longer than 120 columns"
		case strings.HasPrefix(line, "#"):
			return "the template's remarks are still there"
		case links && line != "" && !changeLink.MatchString(line):
			return "there is text after the links"
		}
	}
	return ""
}

// TestChangelog reads every entry as CHANGELOG.md will be made from it.
func TestChangelog(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../changelog/*/*")
	if err != nil || files == nil {
		t.Fatalf("no entries (%v)", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := wrongChange(string(text)); wrong != "" {
			t.Errorf("%s: %s: see changelog/TEMPLATE", f, wrong)
		}
	}
}

// TestChangelogTemplate shows that the template, without its remarks, is an entry, and that the check can fail.
func TestChangelogTemplate(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../changelog/TEMPLATE")
	if err != nil {
		t.Fatal(err)
	}
	entry := strings.TrimLeft(regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(text), ""), "\n")
	if wrong := wrongChange(entry); wrong != "" {
		t.Errorf("the template: %s", wrong)
	}
	for name, bad := range map[string]string{
		"remarks":   string(text),
		"full stop": strings.Replace(entry, "changes\n", "changes.\n", 1),
		"no advice": strings.Replace(entry, "What to do", "Advice", 1),
		"no kind":   strings.Replace(entry, "Bugfix: ", "", 1),
		"wide":      strings.Replace(entry, "goes on where", strings.Repeat("goes on ", 20), 1),
		"late text": entry + "\nP.S.\n",
	} {
		if wrongChange(bad) == "" {
			t.Errorf("an entry with the fault %q passes", name)
		}
	}
}
