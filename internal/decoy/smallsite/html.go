package smallsite

import (
	"slices"
	"strings"
)

// node is an element, or a text where tag is empty.
type node struct {
	tag   string
	attrs []attr
	kids  []node
	text  string
}

type attr struct{ name, value string }

func text(s string) node { return node{text: s} }

// hand is how one site's author writes HTML and CSS.
type hand struct {
	d                            *dice
	indent                       string // of one level
	flat                         bool   // all on one line
	doctype, lang, charset, view string
	quote, slash                 string
	bare                         bool   // no quotes where none are needed
	open                         bool   // </p>, </li> and the like are left out
	last                         string // the attribute that comes last
	reverse                      bool
	curly                        string // apostrophe
	wrapSections, headingIDs     bool
	shortDays, byYear, remarks   bool
	prose                        bool
	level                        int // of a block's heading
	trailing                     bool
	cssStyle                     int
}

func newHand(d *dice) *hand {
	h := &hand{d: d}
	h.indent = pick(d, []string{"", "  ", "    ", "\t", " ", "  "})
	h.flat = d.p(15)
	h.doctype = pick(d, []string{"<!DOCTYPE html>", "<!doctype html>", "<!DOCTYPE HTML>"})
	h.lang = pick(d, []string{"en", "en-GB", "en", "en-US", "", "en-IE"})
	h.charset = pick(d, []string{"utf-8", "UTF-8", "utf8"})
	h.view = pick(d, []string{"width=device-width, initial-scale=1", "width=device-width,initial-scale=1", "width=device-width, initial-scale=1.0",
		"width=device-width", "initial-scale=1, width=device-width", "width=device-width, initial-scale=1, viewport-fit=cover", ""})
	h.quote = pick(d, []string{`"`, `"`, `"`, `'`})
	h.slash = pick(d, []string{"", "", " /", "/"})
	if h.bare = d.p(20); h.bare && h.slash == "/" {
		h.slash = " /" // or it would be a part of the value before it
	}
	h.open = d.p(20)
	h.last = d.one("class,id,href,src,alt,datetime,width,name,content")
	h.reverse = d.p(50)
	h.curly = pick(d, []string{"'", "’", "’", "&rsquo;", "&#39;"})
	h.wrapSections, h.headingIDs = d.p(35), d.p(25)
	h.shortDays, h.byYear, h.remarks, h.prose = d.p(50), d.p(30), d.p(60), d.p(25)
	h.level = d.between(2, 3)
	h.trailing = d.p(80)
	h.cssStyle = d.n(6)
	return h
}

var inline = list("a,em,strong,span,small,time,img,b,i,br,code,cite,abbr,q")

var (
	voidTags = list("img,br,hr,meta,link,col")
	openTags = list("p,li,dt,dd,td,th,tr") // whose end tags HTML lets one omit
)

func isInline(n node) bool { return n.tag == "" || slices.Contains(inline, n.tag) }

func (h *hand) render(b *strings.Builder, n node, depth int) {
	if n.tag == "" {
		b.WriteString(h.escape(n.text))
		return
	}
	h.startTag(b, n)
	if slices.Contains(voidTags, n.tag) {
		return
	}
	nested := !slices.ContainsFunc(n.kids, isInline) && len(n.kids) > 0
	for _, k := range n.kids {
		if nested {
			h.newline(b, depth+1)
		}
		h.render(b, k, depth+1)
	}
	if h.open && slices.Contains(openTags, n.tag) {
		return
	}
	if nested {
		h.newline(b, depth)
	}
	b.WriteString("</" + n.tag + ">")
}

func (h *hand) newline(b *strings.Builder, depth int) {
	if !h.flat {
		b.WriteString("\n" + strings.Repeat(h.indent, depth))
	}
}

func (h *hand) startTag(b *strings.Builder, n node) {
	attrs := slices.Clone(n.attrs)
	if h.reverse {
		slices.Reverse(attrs)
	}
	slices.SortStableFunc(attrs, func(x, y attr) int {
		return b2i(x.name == h.last) - b2i(y.name == h.last)
	})
	b.WriteString("<" + n.tag)
	for _, a := range attrs {
		quote := h.quote
		if h.bare && a.value != "" && !strings.ContainsAny(a.value, " \"'=<>`/\t\n") {
			quote = ""
		}
		value := strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "'", "&#39;").Replace(a.value)
		b.WriteString(" " + a.name + "=" + quote + value + quote)
	}
	if slices.Contains(voidTags, n.tag) {
		b.WriteString(h.slash)
	}
	b.WriteString(">")
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (h *hand) escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", h.curly).Replace(s)
}
