package smallsite

import (
	"fmt"
	"slices"
	"strings"
)

// tableStyle is how an author writes what could be a table.
type tableStyle int

const (
	tableHead  tableStyle = iota // with thead and tbody
	tablePlain                   // rows of td
	tableNone                    // a list: "Monday: 9–12"
	tableTerms                   // a definition list
)

// layout is what all pages of a site have in common.
type layout struct {
	form, nav, wraps, titles, posts, pics, current, backLink int
	separator, back                                          string
	logo                                                     *picture
	side                                                     []block
	summaries, describe, tagline, rules, skip, sizes, datesFirst,
	styleInPage, noStyle, brandIsH1, linkBrand, footNav, spanSeparators bool
	foot []string
	head []int
}

const forms = 9

// stylesHere stands in a page for the style sheet until all pages are written.
const stylesHere = "\x00"

func (p *plan) lay() {
	d := newDice(p.seed, "layout")
	l := &p.layout
	l.form, l.nav, l.wraps, l.titles = d.n(forms), d.n(6), d.n(3), d.n(6)
	l.posts, l.pics, l.current, l.backLink = d.n(7), d.n(5), d.n(5), d.n(4)
	l.separator = pick(d, []string{" | ", " · ", " / ", " – ", " ", ", ", " • ", " :: ", " ~ ", " → "})
	l.back = capital(d.one("back,home,to the start,all notes,up,index,overview,more,← back,← home,the list"))
	if d.p(30) {
		l.logo = p.picture()
		l.logo.alt = p.name
	}
	for range d.n(3) {
		l.side = append(l.side, pick(d, []block{p.para("about", 1, 2), {note: p.v.sentence("note")}, p.list("note", 2, 3), {text: p.v.sentence("reach")}}))
	}
	l.summaries, l.describe, l.tagline, l.rules, l.skip = d.p(40), d.p(40), d.p(55), d.p(30), d.p(10)
	l.sizes, l.datesFirst, l.styleInPage, l.noStyle = d.p(60), d.p(50), d.p(22), d.p(5)
	l.brandIsH1, l.linkBrand, l.footNav, l.spanSeparators = d.p(45), d.p(70), d.p(20), d.p(20)
	for range d.between(1, 3) {
		l.foot = append(l.foot, capital(p.v.say("foot")))
	}
	l.head = shuffle(d, []int{0, 1, 2, 3})
	if !l.styleInPage && !l.noStyle {
		dir := d.one(",,css/,styles/,assets/,static/,s/,theme/,_/")
		for _, name := range shuffle(d, list("style,main,site,screen,base,page,"+slug(p.name, "")+",layout,look,all,default,s,"+p.v.d.one(p.topic.who)))[:1+b2i(d.p(15))] {
			if d.p(20) {
				name += fmt.Sprintf("%s%06x", d.one("-,.,_"), d.n(1<<24))
			}
			p.sheets = append(p.sheets, file{name: dir + strings.ReplaceAll(name, " ", "-") + ".css"})
		}
	}
}

// el is an element that plays a role on the page; tag, class or id of the role are this site's.
func (p *plan) el(role string, kids ...node) node {
	part := p.look.part(role)
	n := node{tag: part.tag, kids: kids}
	if part.attr != "" {
		n.attrs = []attr{{part.attr, part.name}}
	}
	return n
}

func el(tag string, kids ...node) node { return node{tag: tag, kids: kids} }

func (n node) with(name, value string) node {
	n.attrs = append(slices.Clone(n.attrs), attr{name, value})
	return n
}

// tagged changes the element of a node that has a role.
func (n node) tagged(tag string) node {
	n.tag = tag
	return n
}

// asDiv is for what may be a paragraph but has blocks in it.
func asDiv(n node) node {
	if n.tag == "p" {
		n.tag = "div"
	}
	return n
}

func (p *plan) write(pg *page, more []*page) []byte {
	h := p.hand
	var b strings.Builder
	b.WriteString(h.doctype)
	h.newline(&b, 0)
	root := el("html", p.headOf(pg), el("body", p.body(pg, more)...))
	if h.lang != "" {
		root = root.with("lang", h.lang)
	}
	if p.layout.styleInPage {
		root.kids[0].kids = append(root.kids[0].kids, el("style", text(stylesHere)))
	}
	h.render(&b, root, 0)
	if h.trailing {
		b.WriteString("\n")
	}
	return []byte(b.String())
}

func (p *plan) title(pg *page) string {
	if pg == p.pages[0] {
		if p.layout.titles%2 == 0 {
			return p.name
		}
		return p.name + p.layout.separator + p.tagline
	}
	switch p.layout.titles {
	case 0, 1:
		return pg.title + " - " + p.name
	case 2:
		return p.name + ": " + pg.title
	case 3:
		return pg.title
	case 4:
		return pg.title + " (" + p.name + ")"
	}
	return p.name + p.layout.separator + pg.title
}

func (p *plan) headOf(pg *page) node {
	var kids []node
	if p.hand.charset != "" {
		kids = append(kids, el("meta").with("charset", p.hand.charset))
	}
	for _, which := range p.layout.head {
		switch which {
		case 0:
			kids = append(kids, el("title", text(p.title(pg))))
		case 1:
			if p.hand.view != "" {
				kids = append(kids, el("meta").with("name", "viewport").with("content", p.hand.view))
			}
			if p.layout.describe {
				about := pg.summary
				if about == "" {
					about = p.tagline
				}
				kids = append(kids, el("meta").with("name", "description").with("content", about))
			}
		case 2:
			for _, s := range p.sheets {
				kids = append(kids, el("link").with("rel", "stylesheet").with("href", p.href(pg, s.name)))
			}
		case 3:
			for _, i := range p.icons {
				if i.name == "favicon.ico" && !p.look.linkIcon {
					continue
				}
				n := el("link").with("rel", "icon").with("href", p.href(pg, i.name))
				if p.look.iconType && strings.HasSuffix(i.name, ".svg") {
					n = n.with("type", "image/svg+xml")
				}
				kids = append(kids, n)
			}
		}
	}
	return el("head", kids...)
}

func (p *plan) body(pg *page, more []*page) []node {
	l := p.layout
	brand, nav, foot := p.brand(pg), p.nav(pg), p.foot(pg)
	content := p.content(pg)
	for _, m := range more {
		content = append(content, p.el("part", append([]node{el("h2", text(m.title))}, p.blocks(pg, m)...)...).with("id", m.anchor))
	}
	main := p.el("main", content...)
	wrapped := func(role string, n int, kids ...node) []node {
		for i := range n {
			kids = []node{p.el(fmt.Sprint(role, i), kids...)}
		}
		return kids
	}
	var side []node
	for _, b := range l.side {
		side = append(side, p.block(pg, b)...)
	}
	var out []node
	switch l.form {
	case 0: // nothing but the page
		out = append(out, brand...)
		if nav != nil {
			out = append(out, *nav)
		}
		if l.rules {
			out = append(out, el("hr"))
		}
		out = append(append(out, content...), foot)
		if l.wraps == 2 {
			out = wrapped("wrap", 1, out...)
		}
	case 1: // head, main, foot
		out = append(out, p.el("head", add(brand, nav)...), main, foot)
		out = wrapped("wrap", l.wraps%2, out...)
	case 2: // the navigation below the head
		out = append(add([]node{p.el("head", brand...)}, nav), wrapped("inner", l.wraps, main)...)
		out = wrapped("wrap", 1, append(out, foot)...)
	case 3: // a column with everything but the content
		column := p.el("side", append(add(brand, nav), side...)...)
		main.kids = append(main.kids, foot)
		out = wrapped("wrap", 1+l.wraps%2, column, main)
	case 4: // a table, as in the old days
		left := p.el("side", append(add(nil, nav), side...)...).tagged("td")
		right := main.tagged("td")
		cells := []node{left, right}
		if l.rules {
			cells = []node{right, left}
		}
		out = append(out, p.el("head", brand...), p.el("cols", el("tr", cells...)).tagged("table"), foot)
	case 5: // the way on is at the end
		out = append(out, main)
		top, bottom := brand, side
		if pg != p.pages[0] {
			top, bottom = nil, append(slices.Clone(brand), side...)
		}
		if bottom = append(add(nil, nav), bottom...); len(bottom) > 0 {
			out = append(out, p.el("head", bottom...).tagged("div"))
		}
		out = append(slices.Clone(top), wrapped("wrap", l.wraps, append(out, foot)...)...)
	case 6: // two columns below a head
		columns := []node{main, p.el("side", append(add(nil, nav), side...)...)}
		if l.rules {
			slices.Reverse(columns)
		}
		out = append([]node{p.el("head", brand...)}, p.el("cols", columns...).tagged("div"), foot)
		out = wrapped("wrap", l.wraps, out...)
	case 7: // the navigation on top of all
		out = append(add(nil, nav), wrapped("wrap", 1+l.wraps%2, append([]node{p.el("head", brand...)}, content...)...)...)
		out = append(out, foot)
	case 8: // head and foot share the navigation
		main.kids = append(slices.Clone(brand), main.kids...)
		out = append(out, wrapped("wrap", l.wraps, main)...)
		bottom := foot
		if nav != nil {
			bottom.kids = append([]node{*nav}, bottom.kids...)
			bottom = asDiv(bottom)
		}
		out = append(out, bottom)
	}
	if l.skip && nav != nil {
		out = append([]node{p.el("skip", text("Skip")).with("href", "#c")}, out...)
	}
	return out
}

func add(to []node, n *node) []node {
	to = slices.Clone(to)
	if n != nil {
		to = append(to, *n)
	}
	return to
}

func (p *plan) brand(pg *page) []node {
	name := text(p.name)
	if p.layout.linkBrand && pg != p.pages[0] {
		name = el("a", name).with("href", p.href(pg, "index.html"))
	}
	brand := p.el("brand", name)
	if p.layout.brandIsH1 && pg == p.pages[0] {
		brand.tag = "h1"
	}
	var all []node
	if logo := p.layout.logo; logo != nil {
		all = append(all, p.img(pg, logo, "logo"))
	}
	all = append(all, brand)
	if p.layout.tagline {
		all = append(all, p.el("tagline", text(p.tagline)))
	}
	return all
}

// nav is nil where there is nothing to go to.
func (p *plan) nav(pg *page) *node {
	var links []node
	for _, to := range p.pages {
		if to.nav == "" || len(p.pages) == 1 {
			continue
		}
		a := el("a", text(to.nav)).with("href", p.link(pg, to))
		if to == pg {
			switch p.layout.current {
			case 0:
				a = a.with("aria-current", "page")
			case 1:
				a = el("strong", text(to.nav))
			case 2:
				a = el("span", text(to.nav))
			case 3:
				a = a.with("class", p.look.part("current").name)
			}
		}
		links = append(links, a)
	}
	if len(links) < 2 {
		return nil
	}
	var n node
	switch p.layout.nav {
	case 0, 1:
		list := "ul"
		if p.layout.nav == 1 {
			list = "ol"
		}
		var items []node
		for _, a := range links {
			items = append(items, el("li", a))
		}
		n = asDiv(p.el("nav", el(list, items...)))
		if p.layout.separator == " " { // the list is the navigation
			n = p.el("nav", items...).tagged(list)
		}
	case 2, 3:
		var row []node
		for i, a := range links {
			if i > 0 {
				s := text(p.layout.separator)
				if p.layout.spanSeparators {
					s = el("span", s)
				}
				row = append(row, s)
			}
			row = append(row, a)
		}
		n = p.el("nav", row...)
		if p.layout.nav == 3 {
			n = asDiv(p.el("nav", el("p", row...)))
		}
	case 4:
		var boxes []node
		for _, a := range links {
			boxes = append(boxes, p.el("item", a))
		}
		n = asDiv(p.el("nav", boxes...))
	case 5:
		var row []node
		for i, a := range links {
			if i > 0 {
				row = append(row, el("br"))
			}
			row = append(row, a)
		}
		n = p.el("nav", row...)
	}
	return &n
}

func (p *plan) foot(pg *page) node {
	var kids []node
	for i, line := range p.layout.foot {
		switch {
		case len(p.layout.foot) == 1 || p.look.part("foot").tag == "p":
			if i > 0 {
				kids = append(kids, el("br"))
			}
			kids = append(kids, text(line))
		case i == 0 && p.layout.rules:
			kids = append(kids, el("small", text(line)))
		default:
			kids = append(kids, el("p", text(line)))
		}
	}
	return p.el("foot", kids...)
}
