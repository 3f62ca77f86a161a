package smallsite

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kind is a kind of site: what it is called, and what pages it has.
type kind struct {
	sort  string // the letter of the topics that suit it; empty is all
	many  bool   // "we"
	rules rules
	build func(*plan)
}

var kinds = []kind{
	{"", false, rules{"sitename": "{first}'s {doing}\nnotes on {topic}\n{doing} and {stuff}\n{surname}\nthe {good} {thing}\n{thing} and {stuff}\n{first} {surname}\n{stuff} and {stuff}\n{town} notebook\n{count} {things}\n{doing}, {season}\n{nick}\n{few} {things}\n{fine} {things}\n{madeup}"}, notebook},
	{"c", true, rules{"sitename": "{surname} {topic}\n{surname} & {surname2}\n{town} {topic}\n{first} {surname}, {who}\n{surname}'s {things}\n{surname} & {kin}s\nthe {stuff} workshop\n{thing} and {thing}\nworkshop {surname}\n{village} {things}\n{madeup} {things}\n{fine} {things}\n{street} {topic}"}, workshop},
	{"a", true, rules{"sitename": "{town} {topic}\n{village} {who}s\n{town} {topic} club\nthe {town} {who}s\n{topic} in {town}\n{good} {things}, {town}\n{weekday} {who}s\n{village} {topic} society\n{surname} {topic} circle\n{topic} at {street}\n{madeup} {topic}\nfriends of {topic}"}, club},
	{"o", false, rules{"sitename": "{topic} in {town}\n{town} {topic} records\n{village} {things}\n{count} years of {topic}\n{things} of {town}\n{first}'s {thing} records\n{topic}, {town} and {village}\nlooking at {topic}\n{stuff} and {things}\n{thing} log\nthe {village} {thing}\n{season} {topic}"}, record},
	{"k", false, rules{"sitename": "{first}'s {topic}\n{surname} kitchen\n{topic} from {town}\n{stuff} and {stuff}\nthe {good} {thing}\n{fine} {topic}\n{kin} {first}'s {topic}\n{count} {things}\n{food} and {food}\n{topic} for {weekday}\n{good} and {fine}\n{thing} by {thing}\n{madeup} {topic}"}, kitchen},
	{"p", true, rules{"sitename": "{madeup}\n{madeup}\n{madeup}\n{madeup}\n{madeup} {thing}\n{fine} {thing}\n{surname} {thing}\n{good} {thing}\n{madeup} by {surname}"}, product},
}

// Builders of blocks.

func (p *plan) para(rule string, low, high int) block {
	return block{text: p.v.sentences(rule, p.d.between(low, high))}
}

func (p *plan) paras(rule string, low, high int) (all []block) {
	for range p.d.between(low, high) {
		all = append(all, p.para(rule, 2, 5))
	}
	return all
}

func (p *plan) list(rule string, low, high int) block {
	b := block{number: p.d.p(20)}
	for range p.d.between(low, high) {
		b.items = append(b.items, capital(p.v.say(rule)))
	}
	return b
}

func (p *plan) heading(rule string) string { return capital(p.v.say(rule)) }

func (p *plan) hours() block {
	b := block{head: capital(p.d.one("hours,when,open,times,opening times,doors"))}
	b.rows = [][]string{{p.d.one("Day,Weekday,When,"), p.d.one("Time,Hours,Open,From and to,")}}
	days := []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	form := pick(p.d, []string{"%d–%d", "%d:00 – %d:00", "%d to %d", "from %d until %d", "%d.00-%d.00", "%d-%d h"})
	for _, day := range some(p.d, days, p.d.between(2, 6)) {
		if p.hand.shortDays {
			day = day[:3]
		}
		from := p.d.between(8, 16)
		b.rows = append(b.rows, []string{day, fmt.Sprintf(form, from, from+p.d.between(2, 5))})
	}
	return b
}

func (p *plan) prices() block {
	sign := pick(p.d, []string{"€ %d", "%d €", "£%d", "$%d", "%d.–", "%d,00 €", "£%d.50", "from %d", "%d kr", "Fr. %d"})
	b := block{rows: [][]string{{p.d.one("What,Work,Job,Item,Piece,"), p.d.one("Price,From,Each,Cost,")}}}
	for range p.d.between(4, 11) {
		b.rows = append(b.rows, []string{p.heading("service"), fmt.Sprintf(sign, p.d.between(2, 36)*5)})
	}
	return b
}

// add appends a page that is in the navigation; called are its possible names.
func (p *plan) add(called string, blocks ...block) *page {
	name := capital(p.d.one(called))
	pg := &page{title: name, nav: name, blocks: blocks, written: p.born.Add(time.Duration(p.d.n(max(1, int(p.last.Sub(p.born)/time.Second)))) * time.Second)}
	p.pages = append(p.pages, pg)
	return pg
}

// home makes the home page: its blocks in any order, the first paragraph first.
func (p *plan) home(blocks ...block) *page {
	pg := p.add("home,start,front page,welcome,index,home page,hello,news,top")
	pg.title = p.name
	pg.written = p.last
	pg.blocks = append([]block{p.para("about", 2, 4)}, shuffle(p.d, blocks)...)
	return pg
}

// post makes a page of a series, written some time before the one after it.
func (p *plan) post(title string, at time.Time, blocks ...block) *page {
	pg := &page{title: title, post: true, written: at, blocks: blocks}
	for _, b := range blocks {
		if b.text != "" {
			pg.summary, _, _ = strings.Cut(b.text, ". ")
			pg.summary = strings.TrimSuffix(pg.summary, ".") + "."
			break
		}
	}
	return pg
}

// moments are n times between the site's birth and its last change, the newest first.
func (p *plan) moments(n int) []time.Time {
	step := p.last.Sub(p.born) / time.Duration(n+1)
	at := p.last.Add(-time.Duration(p.d.n(1+int(step/time.Second))) * time.Second / 4)
	var all []time.Time
	for range n {
		all = append(all, at)
		at = at.Add(-step/2 - time.Duration(p.d.n(1+int(step/time.Second)))*time.Second)
	}
	return all
}

func (p *plan) extras(pool ...block) []block { return some(p.d, pool, p.d.n(len(pool)+1)) }

func (p *plan) aboutPage() {
	blocks := p.paras("about", 1, 3)
	if p.d.p(45) {
		blocks = append(blocks, block{pic: p.picture()})
	}
	if p.d.p(70) {
		blocks = append(blocks, block{text: p.v.sentences("reach", p.d.between(1, 2))})
	}
	if p.d.p(25) {
		blocks = append(blocks, p.faq())
	}
	p.add("about,who,me,about this site,contact,hello,imprint,colophon,who is this,writing to me,"+p.v.say("first"), blocks...)
}

func (p *plan) faq() block {
	b := block{head: capital(p.d.one("questions,asked often,faq,answers,you ask,what people ask,good questions"))}
	for range p.d.between(3, 6) {
		b.terms = append(b.terms, [2]string{capital(p.v.say("question")), p.v.sentence("answer")})
	}
	return b
}

func notebook(p *plan) {
	var posts []*page
	for _, at := range p.moments(p.d.between(3, 11)) {
		blocks := p.paras("story", 2, 5)
		if p.d.p(35) {
			blocks = append(blocks, block{pic: p.picture()})
		}
		if p.d.p(25) {
			blocks = append(blocks, p.list("heading", 3, 6))
		}
		if p.d.p(15) {
			blocks = append(blocks, block{quote: p.v.sentence("quote")})
		}
		first := blocks[0]
		blocks = append([]block{first}, shuffle(p.d, blocks[1:])...)
		posts = append(posts, p.post(p.heading("heading"), at, blocks...))
	}
	sortPosts(posts)
	shown := posts
	if len(posts) > 4 && p.d.p(40) {
		shown = posts[:p.d.between(3, len(posts)-1)]
	}
	p.home(append(p.extras(block{quote: p.v.sentence("quote")}, block{note: p.v.sentence("note")}, block{pic: p.picture()}),
		block{head: capital(p.d.one("notes,latest,new,posts,writing,entries,lately,recent,from the notebook,")), posts: shown})...)
	archive := func() {
		p.add("archive,all notes,everything,older,list,contents,past", block{posts: posts})
	}
	optional := []func(){
		p.aboutPage,
		func() {
			p.add("tools,things i use,the shelf,kit,what i use,equipment,bench", append(p.paras("about", 1, 2), p.list("note", 3, 8))...)
		},
	}
	if len(shown) == len(posts) {
		optional = append(optional, archive)
	} else {
		archive() // or there would be no way to the others
	}
	for _, more := range shuffle(p.d, optional)[:p.d.between(1, 2)] {
		more()
	}
	p.pages = append(p.pages, posts...)
}

func workshop(p *plan) {
	p.home(p.extras(block{pic: p.picture()}, p.para("story", 2, 4), block{head: p.heading("heading"), items: p.list("service", 3, 6).items},
		block{note: p.v.sentence("note")}, p.hours(), block{quote: p.v.sentence("quote")})...)
	for _, more := range shuffle(p.d, []func(){
		func() {
			var blocks []block
			for range p.d.between(2, 5) {
				b := block{head: p.heading("piece")}
				if p.d.p(60) {
					b.pic = p.picture()
				}
				blocks = append(blocks, b, p.para("story", 1, 3))
			}
			p.add("work,pieces,gallery,recent work,things made,portfolio,from the bench,what we make,examples", blocks...)
		},
		func() {
			p.add("prices,what it costs,price list,services,rates,repairs,orders", append(p.extras(p.para("about", 1, 3)), p.prices(), p.para("rule", 2, 4))...)
		},
		func() {
			p.add("visit,find us,contact,where,getting here,opening hours,the shop,address", p.hours(), p.para("reach", 2, 3), p.para("about", 1, 2))
		},
		func() {
			p.add("about,history,how it began,people,us,the workshop,who we are", p.paras("about", 2, 4)...)
		},
		func() {
			p.add("news,notices,board,lately,diary,this season", p.list("note", 4, 9))
		},
		func() { p.add("questions,faq,good to know,asked,help", p.faq(), p.para("about", 1, 2)) },
	})[:p.d.between(2, 5)] {
		more()
	}
}

func club(p *plan) {
	calendar := block{head: capital(p.d.one("dates,calendar,coming up,diary,programme,next,what's on"))}
	calendar.rows = [][]string{{p.d.one("Date,When,Day,"), p.d.one("What,Event,Evening,"), p.d.one("Where,Place,Venue,With,")}}
	at := p.last.Add(time.Duration(p.d.between(2, 20)*24) * time.Hour)
	for range p.d.between(4, 12) {
		calendar.rows = append(calendar.rows, []string{at.Format(p.dates), p.heading("fixture"), capital(p.v.say("place"))})
		at = at.Add(time.Duration(p.d.between(3, 25)*24) * time.Hour)
	}
	homeHas := p.extras(block{pic: p.picture()}, p.para("story", 2, 4), p.hours(), block{note: p.v.sentence("note")}, p.list("note", 3, 6))
	separate := p.d.p(60)
	if !separate {
		homeHas = append(homeHas, calendar)
	}
	p.home(homeHas...)
	if separate {
		p.add("dates,calendar,programme,events,diary,season,what's on", calendar, p.para("rule", 1, 2))
	}
	for _, more := range shuffle(p.d, []func(){
		func() {
			var blocks []block
			for _, when := range p.moments(p.d.between(2, 6)) {
				blocks = append(blocks, block{head: when.Format(p.dates)}, p.para("story", 2, 5))
			}
			p.add("news,reports,what happened,chronicle,lately,minutes,past evenings", blocks...)
		},
		func() {
			p.add("join,membership,new here?,join us,come along,beginners,taking part", append(p.paras("about", 1, 2), p.list("rule", 3, 7), p.para("reach", 1, 2))...)
		},
		func() { p.add("about,history,who we are,us,the club,people", p.paras("about", 2, 4)...) },
		func() { p.add("rules,house rules,good to know,please,how we do it", p.list("rule", 5, 10)) },
		func() { p.add("questions,faq,asked,answers", p.faq()) },
		func() {
			b := block{rows: [][]string{{"Name", p.d.one("Points,Games,Evenings,Score,Years")}}}
			for _, n := range shuffle(p.d, list(firstNames))[:p.d.between(5, 12)] {
				b.rows = append(b.rows, []string{n + " " + p.d.one(nameHeads)[:1] + ".", strconv.Itoa(p.d.between(1, 60))})
			}
			p.add("table,results,standings,list,ladder,members", b, p.para("story", 1, 2))
		},
	})[:p.d.between(1, 4)] {
		more()
	}
}

func record(p *plan) {
	columns := some(p.d, []string{capital(p.v.say("thing")), capital(p.v.say("stuff")), "Wind", "Temp.", "mm", "Count", "Remarks", "Cloud"}, p.d.between(2, 4))
	table := func(from time.Time, n int) block {
		b := block{rows: [][]string{append([]string{p.d.one("Date,Day,Night,When")}, columns...)}}
		for range n {
			row := []string{from.Format(p.dates)}
			for i := range columns {
				cell := strconv.Itoa(p.d.n(40))
				if i == len(columns)-1 && p.hand.remarks {
					cell = p.v.fill("{good}\n")
				}
				row = append(row, cell)
			}
			b.rows = append(b.rows, row)
			from = from.Add(time.Duration(p.d.between(1, 4)*24) * time.Hour)
		}
		return b
	}
	var months []*page
	for _, at := range p.moments(p.d.between(3, 9)) {
		title := pick(p.d, []string{at.Format("January 2006"), at.Format("January") + ": " + p.v.say("heading"), p.heading("heading")})
		months = append(months, p.post(title, at, append(p.paras("story", 1, 3), table(at.AddDate(0, 0, -25), p.d.between(5, 14)))...))
	}
	sortPosts(months)
	p.home(append(p.extras(block{pic: p.picture()}, p.para("story", 2, 4), block{note: p.v.sentence("note")}, table(p.last.AddDate(0, 0, -12), p.d.between(3, 7))),
		block{head: capital(p.d.one("months,records,reports,by month,older,all records,pages,")), posts: months})...)
	for _, more := range shuffle(p.d, []func(){
		p.aboutPage,
		func() {
			p.add("method,how,how it is done,instruments,notes on method,the place", append(p.paras("about", 1, 2), p.list("rule", 2, 6))...)
		},
		func() {
			p.add("sightings,gallery,drawings,pictures,from the field", block{pic: p.picture()}, p.para("story", 1, 3), block{pic: p.picture()})
		},
	})[:p.d.between(1, 3)] {
		more()
	}
	p.pages = append(p.pages, months...)
}

func kitchen(p *plan) {
	var recipes []*page
	for _, at := range p.moments(p.d.between(4, 10)) {
		have := block{head: capital(p.d.one("ingredients,you need,what goes in,take,shopping,for four"))}
		for range p.d.between(4, 9) {
			have.items = append(have.items, p.v.say("amount"))
		}
		steps := block{head: capital(p.d.one("method,how,steps,do this,making it,")), number: p.d.p(60)}
		for range p.d.between(3, 8) {
			steps.items = append(steps.items, p.v.sentence("step"))
		}
		if p.hand.prose {
			steps.text, steps.items = strings.Join(steps.items, " "), nil
		}
		blocks := append([]block{p.para("story", 1, 3), have, steps}, p.extras(block{pic: p.picture()}, block{note: p.v.sentence("answer")})...)
		title := capital(p.v.fill("{{good} {thing}|{food} and {food} {thing}|{friendName}'s {thing}|{thing} with {food}|{season} {thing}|{food} {thing}|{town} {thing}}"))
		recipes = append(recipes, p.post(title, at, blocks...))
	}
	sortPosts(recipes)
	p.home(append(p.extras(block{pic: p.picture()}, p.para("story", 2, 4), block{note: p.v.sentence("note")}),
		block{head: capital(p.d.one("recipes,all recipes,to cook,contents,on the stove,list,the book,")), posts: recipes})...)
	for _, more := range shuffle(p.d, []func(){
		p.aboutPage,
		func() {
			p.add("basics,notes,larder,the shelf,measures,good to know", append(p.paras("about", 1, 2), p.list("rule", 3, 6))...)
		},
	})[:p.d.between(1, 2)] {
		more()
	}
	p.pages = append(p.pages, recipes...)
}

func product(p *plan) {
	features := block{head: p.heading("heading")}
	if p.d.p(50) {
		features.items = p.list("feature", 4, 8).items
	} else {
		for range p.d.between(3, 6) {
			features.terms = append(features.terms, [2]string{p.heading("feature"), p.v.sentences("about", p.d.between(1, 2))})
		}
	}
	p.home(append(p.extras(block{pic: p.picture()}, p.para("story", 2, 3), block{quote: p.v.sentence("quote")}, p.prices()), features)...)
	p.onePage = p.d.p(25)
	for _, more := range shuffle(p.d, []func(){
		func() {
			var blocks []block
			for range p.d.between(2, 5) {
				blocks = append(blocks, block{head: p.heading("heading")}, p.para("about", 2, 4))
				if p.d.p(40) {
					blocks = append(blocks, p.list("rule", 3, 5))
				}
			}
			p.add("guide,manual,how it works,getting started,using it,handbook,docs", blocks...)
		},
		func() {
			var blocks []block
			major, minor := p.d.between(0, 4), p.d.between(3, 9)
			for _, at := range p.moments(p.d.between(3, 8)) {
				head := pick(p.d, []string{fmt.Sprintf("%d.%d", major, minor), fmt.Sprintf("Version %d.%d, %s", major, minor, at.Format(p.dates)), at.Format(p.dates)})
				blocks = append(blocks, block{head: head, items: p.list("change", 1, 4).items})
				if minor--; minor < 0 {
					major, minor = max(0, major-1), 9
				}
			}
			p.add("changes,versions,history,release notes,what's new,changelog,log", blocks...)
		},
		func() { p.add("questions,faq,help,support,answers", p.faq(), p.para("reach", 1, 2)) },
		func() {
			p.add("about,people,the maker,us,story,contact", append(p.paras("about", 1, 3), p.para("reach", 1, 2))...)
		},
		func() { p.add("price,buy,order,prices,get one,shop", p.prices(), p.para("about", 1, 2)) },
	})[:p.d.between(1, 4)] {
		more()
	}
}
