package accesskey

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxRounds bounds how often a link was escaped by programs that each escaped what the last one had.
const maxRounds = 3

// visible undoes what can be undone before a key is found in s: characters that do not show, full-width forms, odd line
// breaks and blanks, the marks that mail and terminals put before and after lines, HTML's and JSON's ampersands.
func visible(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case ' ' <= r && r <= '~':
			return r
		case strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r):
			return '\n'
		case unicode.IsSpace(r):
			return ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector),
			strings.ContainsRune("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufffc", r), // fillers
			'\u2500' <= r && r <= '\u257f':                                              // box drawing around a wrapped line
			return -1
		case '\uff01' <= r && r <= '\uff5e': // full-width ASCII
			return r - '\uff01' + '!'
		}
		return r
	}, s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimLeft(l, " >|")
	}
	return ampersands(strings.Join(lines, "\n"))
}

var (
	ampersand = strings.NewReplacer("&amp;", "&", "&AMP;", "&", `\u0026`, "&")
	reference = regexp.MustCompile(`&#(?:[0-9]{1,3}|[xX][0-9a-fA-F]{1,2});`)
)

// ampersands undoes HTML's and JSON's escapes. Named references other than the ampersand's are left alone: without
// their semicolon they look like parameters.
func ampersands(s string) string {
	for range maxRounds {
		s = reference.ReplaceAllStringFunc(ampersand.Replace(s), func(ref string) string {
			digits := strings.Trim(ref, "&#;")
			n, err := strconv.ParseUint("0"+digits, 0, 8)
			if digits[0] != 'x' && digits[0] != 'X' {
				n, err = strconv.ParseUint(digits, 10, 8)
			}
			if err != nil || n < ' ' || n > '~' {
				return ref
			}
			return string(rune(n))
		})
	}
	return s
}

// start is where "godwit://" begins and ends.
type start struct{ begin, end int }

// findStarts finds the first n schemes, in any case, escaped or not, broken by blanks or not, with one slash or more.
func findStarts(s string, n int) []start {
	// Look in s without what squeeze drops, but remember where each byte of it was.
	low := make([]byte, 0, len(s))
	was := make([]int, 0, len(s))
	for i, c := range []byte(lower(s)) {
		if strings.IndexByte(dropped, c) < 0 {
			low, was = append(low, c), append(was, i)
		}
	}
	var found []start
	for rest := string(low); len(found) < n; {
		_, after, ok := strings.Cut(rest, "godwit")
		if !ok {
			break
		}
		begin := len(low) - len(after) - len("godwit")
		rest = after
		if after, ok = cutMark(after, ":", "3a"); !ok {
			continue
		}
		if after, ok = cutMark(after, "/", "2f"); !ok {
			continue
		}
		for ok {
			after, ok = cutMark(after, "/", "2f")
		}
		rest = after
		found = append(found, start{was[begin], was[len(low)-len(rest)-1] + 1})
	}
	return found
}

// hasStart reports whether a program that looks for a key would find one begin in s.
func hasStart(s string) bool { return len(findStarts(visible(s), 1)) > 0 }

// cutMark cuts one mark off s, which may be escaped with up to maxRounds layers of percents. Where there is none it
// returns s.
func cutMark(s, mark, hex string) (string, bool) {
	if rest, ok := strings.CutPrefix(s, mark); ok {
		return rest, true
	}
	escaped, ok := strings.CutPrefix(s, "%")
	for range maxRounds - 1 {
		escaped = strings.TrimPrefix(escaped, "25")
	}
	if rest, is := strings.CutPrefix(escaped, hex); ok && is {
		return rest, true
	}
	return s, false
}

// splitLabel parts what follows the scheme at "#" and takes the percent escapes out of what is before it. No key has
// any there. The label keeps one layer of them: its own.
func splitLabel(s string) (body, label string) {
	body, label, _ = strings.Cut(s, "#")
	for range maxRounds {
		next := unescape(body)
		if next == body {
			break
		}
		body = ampersands(next)
		// The "#" itself may have been escaped; then the one found before is further on in the message.
		if b, l, ok := strings.Cut(body, "#"); ok {
			body, label = b, l
		}
	}
	return body, label
}

// unescape undoes one layer of percent escapes and leaves alone what is none.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// dropped is what no key holds and some programs put in: blanks, line breaks, quote marks, backslashes before what
// markdown would take for its own.
const dropped = " \t\r\n|<>\"`\\"

// squeeze drops it.
func squeeze(body string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(dropped, r) {
			return -1
		}
		return r
	}, body)
}

// dashes lists what a dash of a smartening program may have been, the likeliest first.
var dashes = map[rune][]string{
	'\u2010': {"-"}, '\u2011': {"-"}, '\u2212': {"-"}, '\ufe58': {"-"}, '\ufe63': {"-"},
	'\u2012': {"-", "--"}, '\u2013': {"-", "--"}, '\u2014': {"-", "--", "---"}, '\u2015': {"-", "--", "---"},
}

// maxVariants bounds the readings of one key's dashes. One in a million readings passes the sum by chance.
const maxVariants = 256

// undash returns the readings of a body that may hold smart dashes: one, if it holds none or too many.
func undash(body string) []string {
	variants := []string{""}
	plain := strings.Map(func(r rune) rune {
		if dashes[r] != nil {
			return '-'
		}
		return r
	}, body)
	if plain == body {
		return []string{body}
	}
	// What comes after the sum is not the key's, and its dashes are nobody's concern.
	key, _, _ := strings.Cut(body, "&c=")
	tail := body[len(key):]
	from := 0
	for i, r := range key {
		readings := dashes[r]
		if readings == nil {
			continue
		}
		if len(variants)*len(readings) > maxVariants {
			return []string{plain}
		}
		next := make([]string, 0, len(variants)*len(readings))
		for _, reading := range readings {
			for _, v := range variants {
				next = append(next, v+key[from:i]+reading)
			}
		}
		variants, from = next, i+utf8.RuneLen(r)
	}
	for i := range variants {
		variants[i] += key[from:] + tail
	}
	return variants
}

// readLabel reads what follows "#" in a message: up to a blank or a bracket or quote around the key, without the
// punctuation of the sentence it stands in. A label as we print it holds none of these.
func readLabel(s string) string {
	if i := strings.IndexAny(s, " \n<>\"'`“”‘’«»|\\"); i >= 0 {
		s = s[:i]
	}
	s = cleanLabel(unescape(strings.TrimRight(s, ".,;:!?)]}*_~。，、；：！？）】」،؛؟…")))
	if utf8.RuneCountInString(s) > MaxLabel {
		s = cleanLabel(string([]rune(s)[:MaxLabel]))
	}
	return s
}
