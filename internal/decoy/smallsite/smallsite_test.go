package smallsite

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/net/html"
)

var base = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

func seed(i int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint32([]byte("site"), uint32(i)))
}

// sites are many, made once.
var sites = func() (all []map[string][]byte) {
	for i := range 200 {
		site := map[string][]byte{}
		for _, f := range newPlan(seed(i), base).files() {
			site[f.name] = f.body
		}
		all = append(all, site)
	}
	return all
}()

// shared finds what more sites than limit have in common; each gives its pieces with a hash that stands for each.
func shared(limit int, pieces func(site map[string][]byte, add func(piece []byte))) map[string]int {
	hashSeed := maphash.MakeSeed()
	var all []uint64
	for _, site := range sites {
		var own []uint64
		pieces(site, func(piece []byte) { own = append(own, maphash.Bytes(hashSeed, piece)) })
		slices.Sort(own)
		all = append(all, slices.Compact(own)...)
	}
	slices.Sort(all)
	often := map[uint64]int{}
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j] == all[i] {
			j++
		}
		if j-i > limit {
			often[all[i]] = j - i
		}
		i = j
	}
	found := map[string]int{}
	if len(often) > 0 {
		for _, site := range sites {
			pieces(site, func(piece []byte) {
				if n := often[maphash.Bytes(hashSeed, piece)]; n > 0 {
					found[string(piece)] = n
				}
			})
		}
	}
	return found
}

var (
	styles = regexp.MustCompile(`(?s)<style>.*?</style>`)
	tags   = regexp.MustCompile(`<[^>]*>`)
	spaces = regexp.MustCompile(`[^\pL\pN]+`)
	// What HTML and SVG make everyone write, the web over.
	plain = regexp.MustCompile(`(?i)<!doctype[^>]*>|<html[^>]*>|<meta [^>]*(charset|viewport)[^>]*>|xmlns=.http://www.w3.org/2000/svg.`)
)

// TestPhrases: no six words in a row are in more than a tenth of all sites.
func TestPhrases(t *testing.T) {
	t.Parallel()
	found := shared(len(sites)/10, func(site map[string][]byte, add func([]byte)) {
		for name, body := range site {
			if !strings.HasSuffix(name, ".html") && name != "robots.txt" {
				continue
			}
			body = tags.ReplaceAll(styles.ReplaceAll(body, nil), []byte(" \x01 "))
			words := bytes.Split(bytes.ToLower(spaces.ReplaceAll(body, []byte(" "))), []byte(" "))
			for i := 0; i+6 <= len(words); i++ {
				add(bytes.Join(words[i:i+6], []byte(" ")))
			}
		}
	})
	for phrase, n := range found {
		t.Errorf("%d of %d sites say %q", n, len(sites), phrase)
	}
}

// TestMarkup: no 40 bytes of HTML, CSS or SVG in a row are in more than a fifth of all sites.
func TestMarkup(t *testing.T) {
	t.Parallel()
	found := shared(len(sites)/5, func(site map[string][]byte, add func([]byte)) {
		for name, body := range site {
			if !slices.Contains([]string{".html", ".css", ".svg", ".txt"}, path.Ext(name)) {
				continue
			}
			body = plain.ReplaceAll(body, []byte("\x00"))
			for i := 0; i+40 <= len(body); i++ {
				add(body[i : i+40])
			}
		}
	})
	for run, n := range found {
		t.Errorf("%d of %d sites have %q", n, len(sites), run)
	}
}

// TestSpread: what can be hashed or searched for is another on every site, or on nearly every one.
func TestSpread(t *testing.T) {
	t.Parallel()
	traits := map[string]struct {
		most int // sites that may share one
		of   func(i int) []string
	}{
		"name":          {4, func(i int) []string { return []string{newPlan(seed(i), base).name} }},
		"home page":     {1, func(i int) []string { return []string{string(sites[i]["index.html"])} }},
		"home skeleton": {2, func(i int) []string { return []string{skeleton(sites[i]["index.html"])} }},
		"files": {4, func(i int) []string {
			var names []string
			for name := range sites[i] {
				names = append(names, name)
			}
			slices.Sort(names)
			return []string{strings.Join(names, " ")}
		}},
		"file's content": {1, func(i int) []string {
			var all []string
			for name, body := range sites[i] {
				if name != "robots.txt" {
					all = append(all, string(body))
				}
			}
			return all
		}},
		"robots.txt": {70, func(i int) []string { return []string{string(sites[i]["robots.txt"])} }},
		"page's or picture's address": {30, func(i int) (all []string) {
			for name := range sites[i] {
				if name != "index.html" && name != "robots.txt" && !strings.HasPrefix(name, "favicon.") {
					all = append(all, name)
				}
			}
			return all
		}},
		"order of selectors": {1, func(i int) []string {
			return []string{strings.Join(selectors.FindAllString(sheet(sites[i]), -1), " ")}
		}},
		"size of the home page": {8, func(i int) []string { return []string{fmt.Sprint(len(sites[i]["index.html"]))} }},
		"number of files":       {35, func(i int) []string { return []string{fmt.Sprint(len(sites[i]))} }},
	}
	for what, trait := range traits {
		count := map[string]int{}
		for i := range sites {
			values := trait.of(i)
			slices.Sort(values)
			for _, v := range slices.Compact(values) {
				if v != "" {
					count[v]++
				}
			}
		}
		for v, n := range count {
			if n > trait.most {
				t.Errorf("%d of %d sites have the same %s, want at most %d: %.300q", n, len(sites), what, trait.most, v)
			}
		}
	}
}

var selectors = regexp.MustCompile(`[^{};\n]+\{`)

// sheet is all CSS of a site.
func sheet(site map[string][]byte) string {
	var all []string
	for name, body := range site {
		if path.Ext(name) == ".css" {
			all = append(all, string(body))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "") + string(styles.Find(site["index.html"]))
}

// skeleton is a page's elements without what is in them.
func skeleton(body []byte) string {
	var all []string
	for _, tag := range tags.FindAll(styles.ReplaceAll(body, nil), -1) {
		all = append(all, strings.Trim(strings.Fields(string(tag))[0], "<>"))
	}
	return strings.Join(all, " ")
}

// TestLinks: every link and picture leads to a file of the site, every page is HTML that a parser takes as it is meant,
// and every page can be reached.
func TestLinks(t *testing.T) {
	t.Parallel()
	for i, site := range sites {
		seen := map[string]bool{"index.html": true}
		todo := []string{"index.html"}
		for len(todo) > 0 {
			name := todo[0]
			todo = todo[1:]
			doc, err := html.Parse(bytes.NewReader(site[name]))
			if err != nil {
				t.Fatal(err)
			}
			titles := 0
			for n := range doc.Descendants() {
				if n.Type != html.ElementNode {
					continue
				}
				if n.Data == "title" && n.FirstChild != nil {
					titles++
				}
				if n.Data == "p" && n.FirstChild == nil {
					t.Errorf("site %d, %s: an empty paragraph, so something is nested wrongly", i, name)
				}
				for _, a := range n.Attr {
					if a.Key != "href" && a.Key != "src" {
						continue
					}
					to, fragment, _ := strings.Cut(a.Val, "#")
					if to == "" {
						to = path.Base(name)
					}
					if !strings.HasPrefix(to, "/") {
						to = path.Dir("/"+name) + "/" + to
					}
					isDir := strings.HasSuffix(to, "/")
					to = strings.TrimPrefix(path.Clean(to), "/")
					if isDir {
						to = path.Join(to, "index.html")
					}
					if site[to] == nil {
						t.Errorf("site %d, %s: %q leads nowhere", i, name, a.Val)
					} else if path.Ext(to) == ".html" && !seen[to] {
						seen[to] = true
						todo = append(todo, to)
					}
					if fragment != "" && fragment != "c" && !bytes.Contains(site[to], []byte(fragment)) {
						t.Errorf("site %d, %s: no place %q", i, name, a.Val)
					}
				}
			}
			if titles != 1 {
				t.Errorf("site %d, %s: %d titles", i, name, titles)
			}
		}
		for name := range site {
			if path.Ext(name) == ".html" && !seen[name] {
				t.Errorf("site %d: no way to %s", i, name)
			}
		}
	}
}

// TestInnocent: a site says nothing of what serves it, is small, and leaves no trace of how it is made.
func TestInnocent(t *testing.T) {
	t.Parallel()
	for i, site := range sites {
		size, pages := 0, 0
		for name, body := range site {
			size += len(body)
			if path.Ext(name) == ".html" {
				pages++
			}
			text := strings.ToLower(name + " " + string(styles.ReplaceAll(body, nil)))
			for _, word := range []string{"godwit", "vpn", "proxy", "tunnel"} {
				if strings.Contains(text, word) {
					t.Errorf("site %d: %s has %q", i, name, word)
				}
			}
			for _, leftover := range []string{"{", "}", "a~", stylesHere, "%!", "<nil>", "\ufffd"} {
				if path.Ext(name) == ".html" && strings.Contains(text, leftover) {
					t.Errorf("site %d: %s has %q", i, name, leftover)
				}
			}
		}
		if size > 256<<10 || size < 2<<10 || pages < 1 || site["robots.txt"] == nil {
			t.Errorf("site %d has %d pages, %d bytes", i, pages, size)
		}
	}
}

// TestStable: what a seed gives stays as it is. The package's comment says why a change of this hash is a change for
// every gateway, and has to be worth it. The icon is left out: its compression is Go's.
func TestStable(t *testing.T) {
	t.Parallel()
	const want = "758d2313c4b7e8ee4098b1a0c99a07ba05a19e77d4c4cf9e45793e30ba3f5ded"
	h := sha256.New()
	for i := range 5 {
		for _, f := range newPlan(seed(i), base).files() {
			if path.Ext(f.name) != ".png" && path.Ext(f.name) != ".ico" {
				fmt.Fprintln(h, f.name, f.changed.Unix(), len(f.body))
				h.Write(f.body)
			}
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the sites have changed: %s", got)
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	for i := range 50 {
		one := map[int64]bool{}
		for _, f := range newPlan(seed(i), base).files() {
			one[f.changed.Unix()] = true
			if age := base.Sub(f.changed); age < 24*time.Hour || age > 7*366*24*time.Hour {
				t.Errorf("site %d: %s was changed %v before the base time", i, f.name, age)
			}
		}
		if len(one) < 2 {
			t.Logf("site %d was written within a second", i)
		}
	}
}

func TestFileSystem(t *testing.T) {
	t.Parallel()
	for i := range 5 {
		site := New(seed(i), base)
		var names []string
		for name := range sites[i] {
			names = append(names, name)
		}
		if err := fstest.TestFS(site, names...); err != nil {
			t.Error(err)
		}
		if _, err := fs.Stat(site, "absent"); err == nil {
			t.Error("what is not there is")
		}
	}
}

// TestGrammar: every rule that is named is there, also those that no seed here happened to need.
func TestGrammar(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		p := &plan{seed: seed(0), d: newDice(seed(0), "x"), topic: topics[0]}
		p.speak(k)
		var check func(template string)
		check = func(template string) {
			for {
				i := strings.IndexByte(template, '{')
				if i < 0 {
					return
				}
				inner, rest := brace(template[i+1:])
				if all := split(inner); len(all) > 1 {
					for _, a := range all {
						check(a)
					}
				} else if len(p.v.kept[inner]) == 0 {
					t.Errorf("no rule %q", inner)
				}
				template = rest
			}
		}
		for _, table := range []rules{common, k.rules} {
			for _, text := range table {
				for _, l := range lines(text) {
					check(l)
				}
			}
		}
	}
	for _, to := range topics {
		for what, of := range map[string]string{"things": to.things, "did": to.did, "doing": to.doing, "tools": to.tools,
			"stuff": to.stuff, "trouble": to.trouble, "qualities": to.qualities, "friends": to.friends, "who": to.who, "sorts": to.sorts} {
			if of == "" || slices.Contains(list(of), "") {
				t.Errorf("topic %s lacks %s", to.name, what)
			}
		}
		if n := len(list(to.things)); n < 6 {
			t.Errorf("topic %s has %d things", to.name, n)
		}
	}
}
