package smallsite

import (
	"fmt"
	"slices"
	"strings"
)

// content is what a page says, between what all pages have in common.
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
