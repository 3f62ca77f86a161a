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

func (p *plan) content(pg *page) []node {
	var out []node
	top := el("h1", text(pg.title))
	when := p.el("date", text(pg.written.Format(p.dates)))
	if when.tag == "time" {
		when = when.with("datetime", pg.written.Format("2006-01-02"))
	}
	switch {
	case pg == p.pages[0] && p.layout.brandIsH1:
	case pg.post && p.layout.datesFirst:
		out = append(out, when, top)
	case pg.post:
		out = append(out, top, when)
	case pg == p.pages[0]: // the site's name is above already
		if p.layout.titles%3 == 0 && !p.layout.tagline {
			out = append(out, el("h1", text(p.tagline)))
		} else if p.layout.titles%3 == 1 {
			out = append(out, el("h1", text(p.heading("heading"))))
		}
	default:
		out = append(out, top)
	}
	out = append(out, p.blocks(pg, pg)...)
	if pg.post {
		back := el("a", text(p.layout.back)).with("href", p.href(pg, "index.html"))
		switch p.layout.backLink {
		case 0:
			out = append(out, el("p", back))
		case 1:
			out = append(out, p.el("back", back))
		case 2:
			out = append([]node{p.el("back", back)}, out...)
		}
		if p.look.article {
			out = []node{p.el("entry", out...)}
		}
	}
	return out
}

func (p *plan) blocks(at, of *page) (out []node) {
	for i, b := range of.blocks {
		nodes := p.block(at, b)
		if i == 0 && b.text != "" && p.look.lead && len(nodes) == 1 {
			nodes = []node{p.el("lead", nodes[0].kids...)}
		}
		if p.hand.wrapSections && (b.head != "" || i > 0) {
			nodes = []node{p.el("section", nodes...)}
		}
		out = append(out, nodes...)
	}
	return out
}

func (p *plan) block(pg *page, b block) (out []node) {
	if b.head != "" {
		h := el(fmt.Sprint("h", p.hand.level), text(b.head))
		if p.hand.headingIDs {
			h = h.with("id", slug(b.head, p.join))
		}
		out = append(out, h)
	}
	if b.text != "" {
		out = append(out, el("p", text(b.text)))
	}
	if b.quote != "" {
		out = append(out, el("blockquote", el("p", text(b.quote))))
	}
	if b.note != "" {
		out = append(out, p.el("note", text(b.note)))
	}
	if len(b.items) > 0 {
		list := p.el("list").tagged("ul")
		if b.number {
			list = el("ol")
		}
		for _, i := range b.items {
			list.kids = append(list.kids, el("li", text(i)))
		}
		out = append(out, list)
	}
	if len(b.terms) > 0 {
		out = append(out, p.terms(b.terms)...)
	}
	if len(b.rows) > 0 {
		out = append(out, p.table(b.rows))
	}
	if b.pic != nil {
		out = append(out, p.figure(pg, b.pic))
	}
	if len(b.posts) > 0 {
		out = append(out, p.postList(pg, b.posts)...)
	}
	return out
}

func (p *plan) terms(terms [][2]string) (out []node) {
	if p.look.questions == 0 {
		dl := el("dl")
		for _, t := range terms {
			dl.kids = append(dl.kids, el("dt", text(t[0])), el("dd", text(t[1])))
		}
		return []node{dl}
	}
	for _, t := range terms {
		switch p.look.questions {
		case 1:
			out = append(out, el(fmt.Sprint("h", p.hand.level+1), text(t[0])), el("p", text(t[1])))
		case 2:
			out = append(out, el("p", el("strong", text(t[0])), text(" "+t[1])))
		case 3:
			out = append(out, el("details", el("summary", text(t[0])), el("p", text(t[1]))))
		case 4:
			out = append(out, p.el("card", el("b", text(t[0])), el("br"), text(t[1])).tagged("div"))
		}
	}
	return out
}

func (p *plan) table(rows [][]string) node {
	row := func(cell string, cells []string) node {
		tr := el("tr")
		for i, c := range cells {
			tag := cell
			if i == 0 && p.look.rowHeads {
				tag = "th"
			}
			tr.kids = append(tr.kids, el(tag, text(c)))
		}
		return tr
	}
	t := p.el("table").tagged("table")
	switch p.tables {
	case tableHead:
		body := el("tbody")
		for _, r := range rows[1:] {
			body.kids = append(body.kids, row("td", r))
		}
		t.kids = []node{el("thead", row("th", rows[0])), body}
	case tablePlain:
		for _, r := range rows[1:] {
			t.kids = append(t.kids, row("td", r))
		}
	case tableNone:
		t = p.el("list").tagged("ul")
		for _, r := range rows[1:] {
			t.kids = append(t.kids, el("li", text(r[0]+p.look.colon+strings.Join(r[1:], p.layout.separator))))
		}
	case tableTerms:
		t = el("dl")
		for _, r := range rows[1:] {
			t.kids = append(t.kids, el("dt", text(r[0])), el("dd", text(strings.Join(r[1:], ", "))))
		}
	}
	return t
}

func (p *plan) img(pg *page, pic *picture, role string) node {
	n := p.el(role).tagged("img").with("src", p.href(pg, pic.file)).with("alt", pic.alt)
	if p.layout.sizes {
		n = n.with("width", fmt.Sprint(pic.w)).with("height", fmt.Sprint(pic.h))
	}
	return n
}

func (p *plan) figure(pg *page, pic *picture) node {
	img := p.img(pg, pic, "img")
	switch p.layout.pics {
	case 0:
		return p.el("figure", img, el("figcaption", text(pic.caption))).tagged("figure")
	case 1:
		return el("p", img)
	case 2:
		return p.el("figure", img, el("br"), el("small", text(pic.caption))).tagged("p")
	case 3:
		return p.el("figure", el("p", img), p.el("caption", text(pic.caption)).tagged("p")).tagged("div")
	}
	return p.el("figure", el("a", img).with("href", p.href(pg, pic.file)))
}

func (p *plan) postList(pg *page, posts []*page) []node {
	link := func(to *page) node { return el("a", text(to.title)).with("href", p.link(pg, to)) }
	when := func(to *page) node {
		n := p.el("date", text(to.written.Format(p.dates)))
		if n.tag == "time" {
			n = n.with("datetime", to.written.Format("2006-01-02"))
		}
		if !isInline(n) {
			n.tag = "span"
		}
		return n
	}
	var rows [][]node
	for _, to := range posts {
		row := []node{link(to), text(" "), when(to)}
		if p.layout.datesFirst {
			slices.Reverse(row)
		}
		if p.layout.summaries {
			row = append(row, el("br"), text(to.summary))
		}
		rows = append(rows, row)
	}
	wrap := func(list, item string) []node {
		n := p.el("posts").tagged(list)
		for _, r := range rows {
			n.kids = append(n.kids, el(item, r...))
		}
		return []node{n}
	}
	switch p.layout.posts {
	case 0:
		return wrap("ul", "li")
	case 1:
		return wrap("ol", "li")
	case 2:
		return wrap("div", "p")
	case 3:
		dl := p.el("posts").tagged("dl")
		for _, to := range posts {
			dl.kids = append(dl.kids, el("dt", when(to)), el("dd", link(to)))
		}
		return []node{dl}
	case 4:
		t := p.el("posts").tagged("table")
		for _, to := range posts {
			t.kids = append(t.kids, el("tr", el("td", when(to)), el("td", link(to))))
		}
		return []node{t}
	case 5:
		var all []node
		for _, to := range posts {
			all = append(all, p.el("card", el(fmt.Sprint("h", p.hand.level+1), link(to)), p.el("meta", when(to)), el("p", text(to.summary))))
		}
		return all
	}
	n := p.el("posts").tagged("p")
	for i, r := range rows {
		if i > 0 {
			n.kids = append(n.kids, el("br"))
		}
		n.kids = append(n.kids, r...)
	}
	return []node{n}
}
