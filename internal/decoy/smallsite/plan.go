package smallsite

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plan is a site in the making: what it is about, whose it is, and its pages.
type plan struct {
	seed  [32]byte
	d     *dice
	v     *voice
	topic topic
	hand  *hand
	look  *look

	name, tagline, owner, town string
	born, last                 time.Time // of the pages
	pages                      []*page   // the first is the home page
	pictures                   []picture
	tables                     tableStyle
	dates                      string // Go's layout of dates
	dirs                       bool   // about/ instead of about.html
	absolute                   bool   // links begin with a slash
	postDir, picDir, pageDir   string
	join                       string // between the words of a slug
	sheets                     []file
	icons                      []file
	onePage                    bool // all but the posts on the home page
	layout                     layout
}

type page struct {
	title   string
	nav     string // empty: not in the navigation
	file    string
	anchor  string // in a site of one page
	blocks  []block
	summary string
	written time.Time
	post    bool
}

// block is a part of a page's content. What is set says which kind it is.
type block struct {
	head   string
	text   string
	quote  string
	note   string
	items  []string
	rows   [][]string // the first is the head
	terms  [][2]string
	pic    *picture
	posts  []*page
	number bool // items are numbered
}

type picture struct {
	file, caption, alt string
	w, h               int
	body               []byte
}

func newPlan(seed [32]byte, base time.Time) *plan {
	d := newDice(seed, "plan")
	p := &plan{seed: seed, d: d, hand: newHand(newDice(seed, "hand"))}
	p.look = newLook(newDice(seed, "look"), p.hand)
	kind := pick(d, kinds)
	var fit []topic
	for _, t := range topics {
		if strings.Contains(t.sorts, kind.sort) || kind.sort == "" && t.sorts != "p" {
			fit = append(fit, t)
		}
	}
	p.topic = pick(d, fit)
	p.last = base.Add(-time.Duration(d.between(3*24*3600, 90*24*3600)) * time.Second)
	p.born = p.last.AddDate(0, -d.between(8, 70), -d.n(28))
	p.dates = pick(d, []string{"2 January 2006", "January 2, 2006", "2006-01-02", "Jan 2, 2006", "2.1.2006", "2 Jan 2006", "02/01/2006",
		"January 2006", "2006/01/02", "Monday, 2 January 2006", "Jan 2006", "2 Jan 06", "Mon 2 Jan 2006", "2. January 2006"})
	p.dirs, p.absolute = d.p(40), d.p(55)
	p.join = pick(d, []string{"-", "-", "-", "_", ""})
	p.picDir = d.one("img/,images/,pics/,pictures/,assets/,media/,static/,files/,i/,drawings/,art/,gfx/")
	p.pageDir = pick(d, []string{"", "", "", "", "pages/", "p/", "site/", "info/"})
	p.postDir = d.one("notes/,posts/,log/,journal/,blog/,entries/,writing/,diary/,n/,archive/,texts/,letters/,words/")
	p.tables = tableStyle(d.n(4))
	p.speak(kind)
	kind.build(p)
	p.onePage = p.onePage || len(p.pages) > 2 && d.p(8)
	p.place()
	return p
}

// speak makes the voice, and the names in it.
func (p *plan) speak(k kind) {
	d, t := newDice(p.seed, "names"), p.topic
	v := newVoice(newDice(p.seed, "voice"), common, k.rules)
	p.v = v
	p.town = d.one(nameHeads) + d.one(townTails)
	surname := func() string { return d.one(nameHeads) + d.one(surTails) }
	people := shuffle(d, list(firstNames))[:d.between(4, 8)]
	me := people[0]
	p.owner = me + " " + surname()
	if k.many {
		v.set("I", "we")
		v.set("I_", "we")
		v.set("me", "us")
		v.set("my", "our")
		v.set("you", "visitors")
	} else {
		v.set("I", "I")
		v.set("I_", "I")
		v.set("me", "me")
		v.set("my", "my")
		v.set("you", "you")
	}
	things := shuffle(d, list(t.things))[:6]
	var many []string
	for _, th := range things {
		many = append(many, plural(th))
	}
	v.set("thing", things...)
	v.set("things", many...)
	for name, of := range map[string]string{"did": t.did, "doing": t.doing, "tool": t.tools, "stuff": t.stuff, "trouble": t.trouble,
		"good": t.qualities, "friend": t.friends} { // each has its own rule: the order does not matter
		v.set(name, list(of)...)
	}
	v.set("who", t.who)
	v.set("topic", t.name)
	v.set("town", p.town)
	v.set("village", d.one(nameHeads)+d.one(townTails), d.one(nameHeads)+d.one(townTails), d.one(nameHeads)+d.one(townTails))
	v.set("friendName", people[1:]...)
	v.set("first", me)
	v.set("surname", surname())
	v.set("surname2", surname())
	v.set("owner", p.owner)
	v.set("street", d.one(nameHeads)+d.one(townTails)+" "+d.one(wayTails), d.one(nameHeads)+" "+d.one(wayTails))
	v.set("nick", strings.ToLower(me), strings.ToLower(me[:1])+strings.ToLower(p.owner[strings.IndexByte(p.owner, ' ')+1:]))
	v.set("since", strconv.Itoa(p.born.Year()))
	v.set("year", strconv.Itoa(p.last.Year()))
	v.set("madeup", madeUp(d))
	p.name = titled(v.say("sitename"))
	v.set("site", p.name)
	p.tagline = capital(v.say("tag"))
}

// madeUp is a word that nobody uses.
func madeUp(d *dice) string {
	var b strings.Builder
	for range d.between(2, 3) {
		b.WriteString(d.one("b,br,c,d,dr,f,fl,g,gl,h,j,k,kl,l,m,n,p,pl,qu,r,s,sl,st,t,tr,v,w,z"))
		b.WriteString(d.one("a,e,i,o,u,ai,ea,ee,oo,o,a,i"))
		b.WriteString(d.one(",,,n,l,r,m,s,x,t,nd,ck,p"))
	}
	return capital(b.String())
}

// place gives every page its file.
func (p *plan) place() {
	used := map[string]bool{"index": true}
	for i, pg := range p.pages {
		if i == 0 {
			pg.file = "index.html"
			continue
		}
		s := slug(pg.title, p.join)
		if pg.nav != "" && p.d.p(70) {
			s = slug(pg.nav, p.join)
		}
		if pg.post && p.join == "" {
			s = slug(pg.title, "-")
		}
		if pg.post && strings.HasSuffix(p.postDir, "n/") {
			s = strconv.Itoa(len(p.pages) - i)
		}
		for s == "" || used[s] {
			s += p.v.d.one("2,a,b,x")
		}
		used[s] = true
		pg.anchor = s
		dir := p.pageDir
		if pg.post {
			dir = p.postDir
			if p.hand.byYear {
				dir += pg.written.Format("2006/")
			}
		}
		pg.file = dir + s + ".html"
		if p.dirs {
			pg.file = dir + s + "/index.html"
		}
	}
}

// onHome reports whether the page is a part of the home page.
func (p *plan) onHome(pg *page) bool { return p.onePage && !pg.post && pg != p.pages[0] }

// href is a link to a file of the site, as this site's author writes it.
func (p *plan) href(from *page, to string) string {
	to, dir := strings.TrimSuffix(to, "index.html"), path.Dir(from.file)
	if p.absolute {
		return "/" + to
	}
	up := ""
	for ; dir != "." && !strings.HasPrefix(to, dir+"/"); dir = path.Dir(dir) {
		up += "../"
	}
	if dir != "." {
		to = to[len(dir)+1:]
	}
	if up+to == "" {
		return "./"
	}
	return up + to
}

func (p *plan) link(from, to *page) string {
	if p.onHome(to) {
		if from == p.pages[0] {
			return "#" + to.anchor
		}
		return p.href(from, "index.html") + "#" + to.anchor
	}
	return p.href(from, to.file)
}

// picture draws another one.
func (p *plan) picture() *picture {
	pic := drawPicture(newDice(p.seed, fmt.Sprint("picture", len(p.pictures))), p.look, p.hand)
	pic.caption = capital(p.v.say("caption"))
	pic.alt = p.v.say("aThing")
	name := slug(p.v.fill("{thing} {stuff}"), p.join)
	if p.d.p(30) {
		name = slug(p.v.say("thing"), "") + strconv.Itoa(p.d.n(300))
	}
	pic.file = p.picDir + name + ".svg"
	for _, other := range p.pictures {
		if other.file == pic.file {
			pic.file = p.picDir + name + strconv.Itoa(len(p.pictures)) + ".svg"
		}
	}
	p.pictures = append(p.pictures, pic)
	return &pic
}

// files writes the site.
func (p *plan) files() []file {
	d := newDice(p.seed, "files")
	p.makeIcons(d)
	var all []file
	var onHome []*page
	for _, pg := range p.pages {
		if p.onHome(pg) {
			onHome = append(onHome, pg)
		}
	}
	p.lay()
	for _, pg := range p.pages {
		if !p.onHome(pg) {
			more := onHome
			if pg != p.pages[0] {
				more = nil
			}
			all = append(all, file{name: pg.file, body: p.write(pg, more), changed: pg.written})
		}
	}
	if p.layout.styleInPage { // the style sheet knows all its roles only now
		sheet := slices.Concat([]byte("\n"), p.look.sheet(true, true))
		for i := range all {
			all[i].body = bytes.Replace(all[i].body, []byte(stylesHere), sheet, 1)
		}
	}
	for _, s := range p.sheets {
		s.body = p.look.sheet(s.name == p.sheets[len(p.sheets)-1].name, s.name == p.sheets[0].name)
		s.changed = p.born.Add(time.Duration(d.n(40*24*3600)) * time.Second)
		all = append(all, s)
	}
	for _, pic := range p.pictures {
		at := p.born.Add(time.Duration(d.n(int(p.last.Sub(p.born)/time.Second))) * time.Second)
		all = append(all, file{pic.file, pic.body, at})
	}
	for _, i := range p.icons {
		i.changed = p.born.Add(time.Duration(d.n(90*24*3600)) * time.Second)
		all = append(all, i)
	}
	all = append(all, file{"robots.txt", p.robots(d), p.born.Add(time.Duration(d.n(9*24*3600)) * time.Second)})
	// What a generator writes has one date, give or take a second; what is written by hand has many.
	if d.p(45) {
		for i := range all {
			all[i].changed = p.last.Add(time.Duration(d.n(3)) * time.Second)
		}
	}
	for i := range all {
		if all[i].changed.After(p.last) {
			all[i].changed = p.last
		}
	}
	return all
}

func (p *plan) robots(d *dice) []byte {
	var b strings.Builder
	if d.p(25) {
		fmt.Fprintf(&b, "# %s\n", p.name)
	}
	b.WriteString("User-agent: *\n")
	switch d.n(5) {
	case 0:
		b.WriteString("Allow: /\n")
	case 1:
		b.WriteString("Disallow:\n")
	case 2:
		fmt.Fprintf(&b, "Disallow: /%s/\n", d.one("drafts,private,tmp,old,test,backup,scans,raw"))
	case 3:
		fmt.Fprintf(&b, "Disallow: /%s\nCrawl-delay: %d\n", p.picDir, d.between(2, 30))
	case 4:
		fmt.Fprintf(&b, "Crawl-delay: %d\n", d.between(1, 60))
	}
	if d.p(25) {
		for _, bot := range some(d, list("GPTBot,CCBot,AhrefsBot,SemrushBot,MJ12bot,Bytespider,DotBot,PetalBot"), d.between(1, 4)) {
			fmt.Fprintf(&b, "\nUser-agent: %s\nDisallow: /\n", bot)
		}
	}
	return []byte(b.String())
}

// sortPosts puts the newest first.
func sortPosts(all []*page) {
	slices.SortStableFunc(all, func(a, b *page) int { return b.written.Compare(a.written) })
}
