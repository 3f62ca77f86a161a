package accesskey

import (
	"encoding/json"
	"html"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// escape puts percent escapes where is says so.
func escape(s string, is func(byte) bool) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if is(s[i]) {
			b.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[s[i]>>4])+string("0123456789abcdef"[s[i]&15])))
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// wrap breaks s into lines of n bytes.
func wrap(s string, n int, sep string) string {
	var lines []string
	for len(s) > n {
		lines, s = append(lines, s[:n]), s[n:]
	}
	return strings.Join(append(lines, s), sep)
}

// between puts mark after every nth byte.
func between(s string, n int, mark string) string { return wrap(s, n, mark) }

// TestWhatProgramsDoToKeys gives keys as they arrive and expects them whole, label included.
func TestWhatProgramsDoToKeys(t *testing.T) {
	t.Parallel()
	reserved := func(c byte) bool { return strings.IndexByte(":/?#[]@!$&'()*+,;=%", c) >= 0 }
	inQuery := func(c byte) bool { return strings.IndexByte("[]@+,", c) >= 0 }
	jsonText, _ := json.Marshal(golden)
	for name, text := range map[string]string{
		"as printed":            golden,
		"line break after":      golden + "\r\n",
		"blanks around":         " \t" + golden + " ",
		"double quotes":         `"` + golden + `"`,
		"single quotes":         "'" + golden + "'",
		"smart quotes":          "“" + golden + "”",
		"guillemets":            "« " + golden + " »",
		"angle brackets":        "<" + golden + ">",
		"URL: brackets":         "<URL:" + golden + ">",
		"backticks":             "```\n" + golden + "\n```",
		"inline code":           "key: `" + golden + "`.",
		"bold":                  "**" + golden + "**",
		"italics":               "_" + golden + "_",
		"markdown link":         "[my key](" + golden + ")",
		"HTML attribute":        `<a href="` + html.EscapeString(golden) + `">key</a>`,
		"&amp;":                 strings.ReplaceAll(golden, "&", "&amp;"),
		"&amp;amp;":             strings.ReplaceAll(golden, "&", "&amp;amp;"),
		"&#38;":                 strings.ReplaceAll(golden, "&", "&#38;"),
		"numeric references":    strings.NewReplacer("=", "&#61;", "@", "&#x40;", "&", "&#38;").Replace(golden),
		"JSON":                  string(jsonText),
		"JSON with slashes":     strings.ReplaceAll(string(jsonText), "/", `\/`),
		"markdown escapes":      strings.NewReplacer("_", `\_`, "-", `\-`).Replace(golden),
		"byte order mark":       "\ufeff" + golden,
		"zero-width spaces":     between(golden, 20, "\u200b"),
		"word joiners":          between(golden, 7, "\u2060"),
		"soft hyphens":          between(golden, 31, "\u00ad"),
		"direction marks":       "\u200e\u202a" + golden + "\u202c\u200f",
		"isolates":              "\u2068" + golden + "\u2069",
		"variation selector":    golden + "\ufe0f",
		"capital first letter":  "G" + golden[1:],
		"capital scheme":        "GODWIT" + golden[6:],
		"capital host":          strings.Replace(golden, "gate.example", "Gate.EXAMPLE", 1),
		"slash lost":            strings.Replace(golden, "/?pin", "?pin", 1),
		"one slash":             strings.Replace(golden, "://", ":/", 1),
		"blank in scheme":       strings.Replace(golden, "://", " : //", 1),
		"reserved escaped":      escape(golden, reserved),
		"escaped twice":         escape(escape(golden, reserved), reserved),
		"escaped three times":   escape(escape(escape(golden, reserved), reserved), reserved),
		"query escape":          url.QueryEscape(golden),
		"path escape":           url.PathEscape(golden),
		"some escaped":          escape(goldenBody, inQuery) + strings.TrimPrefix(golden, goldenBody),
		"only @ escaped":        strings.Replace(golden, "@", "%40", 1),
		"lower-case escapes":    strings.NewReplacer("=", "%3d", "/", "%2f").Replace(golden),
		"unreserved escaped":    strings.NewReplacer("-", "%2D", "_", "%5F", ".", "%2E").Replace(golden),
		"escape and HTML":       strings.ReplaceAll(escape(golden, inQuery), "&", "&amp;"),
		"in another URL":        "https://open.example/?u=" + url.QueryEscape(golden),
		"full-width colon":      strings.Replace(golden, "://", "：／／", 1),
		"full-width everything": strings.NewReplacer("=", "＝", "&", "＆", "?", "？", "@", "＠").Replace(golden),
		"in a sentence":         "Hello! Here it is: " + golden + " - keep it to yourself. Bye, A. #friends & family",
		"stop after":            "Use " + golden + ".",
		"comma after":           golden + ", please",
		"in parentheses":        "(" + golden + ")",
		"question":              "did you get " + golden + "?!",
		"Chinese sentence":      "密钥：" + golden + "。",
		"Arabic sentence":       "\u200fالمفتاح: " + golden + "؟",
		"word before":           "A godwit is a bird. godwit: " + golden,
		"another link before":   "https://example.org/ " + golden,
		"scheme named before":   "keys begin with godwit:// like this: " + golden,
		"broken key before":     golden[:100] + "\n" + golden,
		"another key after":     golden + "\n" + goldenSmall,
		"shell prompt":          "$ godwit up '" + golden + "'",
		"shell assignment":      "GODWIT_KEY=" + golden,
		"capital checksum":      goldenBody + "&c=PZFT#Ann%27s%20phone",
	} {
		k, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(k, fullKey()) {
			t.Errorf("%s: read as %s", name, k.Text())
		}
	}
}

// TestWrappedKeys are of several lines: the label may be lost with its line, nothing else.
func TestWrappedKeys(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 5, 20, 33, 40, 60, 72, 76, 80} {
		for name, text := range map[string]string{
			"lines":        wrap(golden, n, "\n"),
			"CRLF":         wrap(golden, n, "\r\n"),
			"blank lines":  wrap(golden, n, "\n\n"),
			"indented":     "  " + wrap(golden, n, "\n    "),
			"blanks":       wrap(golden, n, " "),
			"no-break":     wrap(golden, n, "\u00a0"),
			"paragraphs":   wrap(golden, n, "\u2029"),
			"quoted":       "> " + wrap(golden, n, "\n> "),
			"twice quoted": ">> " + wrap(golden, n, "\n>> "),
			"in a box":     "│ " + wrap(golden, n, " │\n│ ") + " │",
			"in a table":   "| " + wrap(golden, n, " |\n| ") + " |",
			"then words":   wrap(golden, n, "\n") + "\nThat was the key.",
		} {
			k, err := Parse(text)
			if err != nil {
				t.Errorf("%s of %d: %v", name, n, err)
				continue
			}
			k.Label = fullKey().Label
			if !reflect.DeepEqual(k, fullKey()) {
				t.Errorf("%s of %d: read as %s", name, n, k.Text())
			}
		}
	}
	if k := mustParse(t, goldenSmall+" #5 on the list"); k.Label != "" {
		t.Errorf("a word of the message became the label %q", k.Label)
	}
	if k := mustParse(t, goldenSmall+", #5"); k.Label != "" {
		t.Errorf("a word of the message became the label %q", k.Label)
	}
}

func TestSmartDashes(t *testing.T) {
	t.Parallel()
	// Hashes with every dash that can be made of one, two or three.
	k := fullKey()
	k.Pin = [32]byte(mustDecode(t, "a-b--c---d-efghijklmnopqrstuvwxyz--0123456A"))
	k.Endpoints[0].Host = "my-gate.example"
	text := k.Text()
	for name, r := range map[string]*strings.Replacer{
		"en for one":         strings.NewReplacer("-", "–"),
		"em for one":         strings.NewReplacer("-", "—"),
		"em for two":         strings.NewReplacer("--", "—"),
		"en for two":         strings.NewReplacer("--", "–"),
		"em for 3, en for 2": strings.NewReplacer("---", "—", "--", "–"),
		"hyphens":            strings.NewReplacer("-", "\u2010"),
		"no-break hyphens":   strings.NewReplacer("-", "\u2011"),
		"minus signs":        strings.NewReplacer("-", "\u2212"),
	} {
		changed := r.Replace(text)
		if changed == text {
			t.Fatalf("%s changed nothing", name)
		}
		got, err := Parse(changed)
		switch {
		case name == "em for one" || name == "en for one":
			// Too many to try every reading of, but each is one dash: the first reading is right.
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !reflect.DeepEqual(got, k) {
			t.Errorf("%s: read as %s", name, got.Text())
		}
	}
	// A dash after the key is punctuation.
	if got := mustParse(t, text+" — keep it"); !reflect.DeepEqual(got, k) {
		t.Errorf("read as %s", got.Text())
	}
	if got := undash(strings.Repeat("—", 100) + "&c=abcd"); len(got) != 1 {
		t.Errorf("%d readings of a hundred dashes", len(got))
	}
	if got := undash("a—b–c&c=x—"); len(got) != 6 || got[0] != "a-b-c&c=x—" || got[5] != "a---b--c&c=x—" {
		t.Errorf("readings %q", got)
	}
}

func mustDecode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := b64.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
