package accesskey

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// TestCutOffAnywhere cuts a key at every place: it is always called cut off, and never another key.
func TestCutOffAnywhere(t *testing.T) {
	t.Parallel()
	for _, text := range []string{golden, goldenSmall} {
		whole := mustParse(t, text)
		whole.Label = ""
		body, _, _ := strings.Cut(text, "#")
		for i := len("godwit:"); i < len(body); i++ {
			for _, after := range []string{"", "\n", "…", "...", " thanks", ".\n\nAbc23 Xyz", ">", "`", ")"} {
				if after != "" && i <= len(scheme) {
					continue // too little of it to tell from a word
				}
				k, err := Parse(text[:i] + after)
				if err == nil && reflect.DeepEqual(k, whole) {
					continue // the next word happens to begin with what was cut off
				}
				wantKind(t, err, ErrTruncated, text[:i]+after)
			}
		}
		for i := len(body); i < len(text); i++ {
			k := mustParse(t, text[:i])
			k.Label = ""
			if !reflect.DeepEqual(k, whole) {
				t.Errorf("cut in its label at %d: read as %s", i, k.Text())
			}
		}
		// The beginning is missing.
		for i := 1; i < strings.Index(text, "&dir="); i++ {
			_, err := Parse(text[i:])
			wantKind(t, err, ErrTruncated, text[i:])
		}
		// Its middle is shown as dots.
		for i := len(scheme); i < len(body)-20; i += 3 {
			for _, dots := range []string{"…", "..."} {
				_, err := Parse(text[:i] + dots + text[i+15:])
				wantKind(t, err, ErrTruncated, text[:i]+dots)
			}
		}
	}
	if got := ErrTruncated.Error(); got != "the access key is cut off: copy all of it" {
		t.Errorf("the person is told %q", got)
	}
}

// TestLostLine loses one of the lines a terminal or a mail program broke the key into.
func TestLostLine(t *testing.T) {
	t.Parallel()
	body, _, _ := strings.Cut(goldenSmall, "&c=")
	for _, n := range []int{40, 60, 72, 76, 80} {
		lines := strings.Split(wrap(goldenSmall, n, "\n"), "\n")
		for i := range lines {
			if i*n >= len(body) {
				continue // the last line may be just the end of c, which other tests have
			}
			kept := strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "\n")
			_, err := Parse(kept)
			wantKind(t, err, ErrTruncated, kept)
		}
	}
}

// TestChangedAnywhere changes each character to others: it is never read as another key, and changes inside the parts
// that make up most of it are always called changes.
func TestChangedAnywhere(t *testing.T) {
	t.Parallel()
	whole := mustParse(t, golden)
	hashes := map[int]bool{}
	for _, part := range []string{"ARAREhMUFRYXICEi", "ICEiIyQlJicoKSorLC0uLw",
		"-wIJEBceJSwzOkFIT1ZdZGtyeYCHjpWco6qxuL_GzdQ",
		"P0JFSEtOUVRXWl1gY2ZpbG9ydXh7foGEh4qNkJOWmZw", "gate.example", "www.example", "203.0.113.7:8443"} {
		at := strings.Index(golden, part)
		for i := range part {
			hashes[at+i] = true
		}
	}
	for i := len(scheme); i < len(goldenBody)+len("&c=pzft"); i++ {
		for _, c := range []string{"0", "O", "l", "x", "_", "-", ".", "é"} {
			text := golden[:i] + c + golden[i+1:]
			if text == golden || strings.Contains(text, "...") {
				continue
			}
			k, err := Parse(text)
			switch {
			case err == nil && !reflect.DeepEqual(k, whole):
				t.Fatalf("%q was read as another key", text)
			case err == nil || errors.Is(err, ErrTooNew) || errors.Is(err, ErrNotKey) || errors.Is(err, ErrInvalid):
				t.Errorf("%q: %v", text, err)
			case hashes[i]:
				wantKind(t, err, ErrMangled, text)
			default:
				noSecrets(t, err.Error())
			}
		}
		// Two neighbours swapped.
		if i+1 < len(goldenBody) && golden[i] != golden[i+1] && hashes[i] && hashes[i+1] {
			text := golden[:i] + golden[i+1:i+2] + golden[i:i+1] + golden[i+2:]
			_, err := Parse(text)
			wantKind(t, err, ErrMangled, text)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxInput)
	for _, c := range []struct {
		name, text string
		kind       error
		says       string
	}{
		{"nothing", "", ErrNotKey, "nothing"},
		{"blanks", " \n\u200b\ufeff ", ErrNotKey, "nothing"},
		{"quotes", `""`, ErrNotKey, "nothing"},
		{"a word", "hello", ErrNotKey, ""},
		{"the name", "godwit", ErrNotKey, ""},
		{"a sentence", "godwit is a bird: it flies / rests", ErrNotKey, ""},
		{"another program's key", "ss://Y2hhY2hhMjA6cHc@gate.example:443/?plugin=x#a", ErrNotKey, "ss://"},
		{"another program's", "vless://4c5b6@gate.example:443?type=ws", ErrNotKey, "vless://"},
		{"a web page", "https://gate.example/?pin=1&c=abcd", ErrNotKey, "https://"},
		{"binary", "\x00\x01\x02\xff", ErrNotKey, ""},
		{"too long", long + golden, ErrNotKey, "65536"},
		{"first word", "godwit:", ErrTruncated, ""},
		{"scheme", "godwit://", ErrTruncated, ""},
		{"a page under our scheme", "godwit://example.com/path", ErrMangled, "does not begin"},
		{"no c", goldenBody, ErrTruncated, "at: the rest"},
		{"no c, but a label", goldenBody + "#Ann", ErrTruncated, ""},
		{"half of c", goldenBody + "&c=pz", ErrTruncated, "c: the rest"},
		{"half of c and a word", goldenBody + "&c=pz thanks", ErrTruncated, "c: the rest"},
		{"half of c and a label", goldenBody + "&c=pz#Ann", ErrTruncated, ""},
		{"another c", goldenBody + "&c=aaaa", ErrMangled, "checksum"},
		{"no checksum", goldenBody + "&c=p1", ErrTruncated, ""},
		{"not a checksum", goldenBody + "&c=a1b2", ErrMangled, "checksum"},
		{"small letters", lower(golden), ErrMangled, "capital letters"},
		{"one letter eaten", strings.Replace(golden, "_", "", 1), ErrMangled, ""},
		{"@ written out", strings.Replace(golden, "@", "(at)", 1), ErrMangled, ""},
		{"parameter renamed", strings.Replace(golden, "pin=", "pim=", 1), ErrMangled, ""},
		{"no pin", goldenBody[:57] + goldenBody[strings.Index(goldenBody, "&next")+1:] + "&c=pzft", ErrTruncated, "pin"},
		{"no dir", strings.Replace(golden, "&dir=P0JFSEtOUVRXWl1gY2ZpbG9ydXh7foGEh4qNkJOWmZw", "", 1), ErrTruncated, "dir"},
		{"half a pin", strings.Replace(golden, "zOkFIT1ZdZGtyeYCHjp", "", 1), ErrTruncated, "pin"},
		{"half a payload", strings.Replace(golden, "ICEiIyQlJicoKSor", "", 1), ErrTruncated, "payload"},
		{"damaged, then a broken one", "godwit://A " + goldenBody + "&c=aaaa", ErrTruncated, ""},
	} {
		_, err := Parse(c.text)
		wantKind(t, err, c.kind, c.name)
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q does not say %q", c.name, err, c.says)
		}
	}
}
