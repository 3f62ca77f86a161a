package smallsite

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// rules are a grammar: each has alternatives, one per line. In an alternative,
//
//	{name}     is what the rule of that name gives
//	{a|b|}     is one of these, which may have braces of their own
//	a~         is "a", or "an" before a vowel
type rules map[string]string

// voice is how one site's author talks. Of every rule with many alternatives only a part is kept, as people have habits,
// and what two sites have in common shrinks with the square of that part. What is drawn from a rule is not drawn again
// until all of it was.
type voice struct {
	d    *dice
	kept map[string][]string
	deck map[string][]string
}

func newVoice(d *dice, tables ...rules) *voice {
	v := &voice{d: d, kept: map[string][]string{}, deck: map[string][]string{}}
	for _, t := range tables {
		for _, name := range slices.Sorted(maps.Keys(t)) {
			v.kept[name] = append(v.kept[name], lines(t[name])...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.kept)) {
		all := v.kept[name]
		if n := len(all); n > 5 {
			v.kept[name] = shuffle(d, all)[:max(4, n*42/100)]
		}
	}
	return v
}

func lines(text string) []string {
	var all []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" {
			all = append(all, l)
		}
	}
	return all
}

// set makes a rule that gives these and no other.
func (v *voice) set(name string, to ...string) {
	v.kept[name] = to
	delete(v.deck, name)
}

// draw takes the next alternative of a rule.
func (v *voice) draw(name string) string {
	deck := v.deck[name]
	if len(deck) == 0 {
		if len(v.kept[name]) == 0 {
			panic("smallsite: no rule " + name)
		}
		deck = shuffle(v.d, v.kept[name])
	}
	v.deck[name] = deck[1:]
	return deck[0]
}

// say is a phrase of the rule.
func (v *voice) say(name string) string { return polish(v.expand(v.draw(name))) }

// fill is a phrase of the template.
func (v *voice) fill(template string) string { return polish(v.expand(template)) }

// sentence begins with a capital and ends with a full stop.
func (v *voice) sentence(name string) string {
	s := capital(v.say(name))
	if !strings.ContainsAny(s[len(s)-1:], ".!?:") {
		s += "."
	}
	return s
}

// sentences are n of them in one paragraph.
func (v *voice) sentences(name string, n int) string {
	var all []string
	for range n {
		all = append(all, v.sentence(name))
	}
	return strings.Join(all, " ")
}

func (v *voice) expand(template string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(template, '{')
		if i < 0 {
			b.WriteString(template)
			return b.String()
		}
		b.WriteString(template[:i])
		inner, rest := brace(template[i+1:])
		if alternatives := split(inner); len(alternatives) > 1 {
			b.WriteString(v.expand(pick(v.d, alternatives)))
		} else {
			b.WriteString(v.expand(v.draw(inner)))
		}
		template = rest
	}
}

// brace cuts at the brace that closes the one before s.
func brace(s string) (inner, rest string) {
	depth := 1
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return s[:i], s[i+1:]
			}
		}
	}
	panic("smallsite: open brace in " + s)
}

// split cuts at the bars that are in no inner brace.
func split(s string) []string {
	var all []string
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			depth--
		case '|':
			if depth == 0 {
				all = append(all, s[from:i])
				from = i + 1
			}
		}
	}
	return append(all, s[from:])
}

// polish sets the articles and mends what empty alternatives leave behind.
func polish(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		if article, ok := strings.CutSuffix(w, "~"); ok {
			words[i] = article
			if i+1 < len(words) && vowel(words[i+1]) {
				words[i] += "n"
			}
		}
	}
	s = strings.Join(words, " ")
	for _, mark := range []string{",", ".", ";", ":"} {
		s = strings.ReplaceAll(s, " "+mark, mark)
	}
	return s
}

// vowel reports whether a word is heard to begin with one.
func vowel(word string) bool {
	return strings.ContainsRune("aeiouAEIOU", rune(word[0])) && !strings.HasPrefix(word, "use") && !strings.HasPrefix(word, "uni")
}

func capital(s string) string {
	if s == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// titled capitalises the words of a name.
func titled(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		if i == 0 || !slices.Contains(list("a,an,the,and,of,on,in,at,by,for,from,to"), w) {
			words[i] = capital(w)
		}
	}
	return strings.Join(words, " ")
}

// plural is of the nouns in topics.go.
func plural(s string) string {
	switch {
	case strings.HasSuffix(s, "y") && !strings.ContainsAny(s[len(s)-2:len(s)-1], "aeo"):
		return s[:len(s)-1] + "ies"
	case strings.HasSuffix(s, "s"), strings.HasSuffix(s, "x"), strings.HasSuffix(s, "ch"), strings.HasSuffix(s, "sh"):
		return s + "es"
	}
	return s + "s"
}
