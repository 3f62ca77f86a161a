package smallsite

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// look is how a site looks: what its parts are called, its colours and its style sheet.
type look struct {
	d     *dice
	hand  *hand
	parts map[string]part
	order []string // of roles, as they came up
	css   []byte   // of the whole sheet, once it is made
	split int

	scheme   int
	prefix   string
	unit     string
	hue      int
	dark     bool
	colours  int // how they are written
	vars     bool
	palette  map[string]string
	names    map[string]string // of variables
	taken    map[string]bool
	measure  string
	lead     bool
	article  bool
	linkIcon bool
	iconType bool
	rowHeads bool
	colon    string

	questions int
}

// part is the element of a role, and its class or id, if it has one.
type part struct{ tag, attr, name string }

// roles say what element each may be, what it may be called, and whether there is one per page.
var roles = map[string]struct {
	tags, names string
	once        bool
}{
	"wrap0":   {"div,div,section", "wrap,wrapper,page,container,outer,sheet,frame,site,paper,shell,canvas,box", true},
	"wrap1":   {"div", "bg,all,body,layer,back,room,stage,holder,desk,field", true},
	"inner0":  {"div", "inner,middle,between,width,center,measure,hold", true},
	"inner1":  {"div", "area,block,space,row,band,zone", true},
	"head":    {"header,header,div", "header,head,top,masthead,banner,titlebar,crown,hd,intro,opening", true},
	"brand":   {"p,div,strong,h2,span", "brand,title,logo,sitename,name,site-title,sign,heading,wordmark", true},
	"tagline": {"p,span,div,em", "tagline,sub,motto,subtitle,slogan,about,claim,line,desc", true},
	"nav":     {"nav,nav,div,p", "nav,menu,links,navigation,pages,mainnav,tabs,ways,goto,toc", true},
	"item":    {"span,div", "item,link,entry,tab,nav-item,door", false},
	"current": {"a", "active,current,here,on,selected,now,this", false},
	"main":    {"main,main,div,article", "main,content,body,text,column,primary,copy,page-body,c,story,right", true},
	"side":    {"aside,div,section", "side,sidebar,aside,margin,rail,secondary,extra,left,info,col", true},
	"cols":    {"div", "cols,columns,row,split,two,grid,layout,flex,pair", true},
	"foot":    {"footer,footer,div,p", "footer,foot,bottom,ft,end,colophon,small,legal,base", true},
	"skip":    {"a", "skip,jump,sr,skip-link", true},
	"entry":   {"article,div,section", "entry,post,note,article,piece,single,full", false},
	"part":    {"section,div,article", "part,section,chunk,panel,stripe,chapter,band", false},
	"section": {"section,div", "sec,section,block,group,segment,box,unit,slab", false},
	"date":    {"time,span,small,em,p", "date,when,meta,day,stamp,posted,time,dateline", false},
	"lead":    {"p", "lead,intro,lede,first,summary,opener,big,welcome", false},
	"note":    {"p,div,aside", "note,notice,hint,box,aside,remark,callout,news,info", false},
	"list":    {"ul", "list,plain,items,bullets,set,points,rows", false},
	"posts":   {"ul", "posts,entries,index,archive,notes,listing,toc,feed,contents", false},
	"card":    {"div,article,section,li", "card,teaser,item,tile,cell,post,box,preview,summary", false},
	"meta":    {"div,p,small", "meta,byline,info,details,sub,under", false},
	"table":   {"table", "table,data,grid,times,tbl,sheet,rows,list", false},
	"figure":  {"figure,div,p", "figure,pic,image,photo,illustration,plate,drawing,art,fig", false},
	"caption": {"p", "caption,cap,legend,label,below,credit", false},
	"img":     {"img", "img,image,pic,framed,wide,responsive,graphic", false},
	"logo":    {"img", "logo,mark,emblem,sign,icon,badge,crest", true},
	"back":    {"p,div,nav,small", "back,return,up,more,prev,home,away", false},
}

func newLook(d *dice, h *hand) *look {
	l := &look{d: d, hand: h, parts: map[string]part{}, palette: map[string]string{}, names: map[string]string{}, taken: map[string]bool{}}
	l.scheme = d.n(8)
	l.prefix = d.one("a,b,c,k,m,s,t,x,my,the,ui,w,pg,is,u,site,l,o,z,st,web,p") + d.one(",,,a,e,o,1,2,b,s")
	l.unit = pick(d, []string{"rem", "em", "px", "rem"})
	l.hue, l.dark, l.colours, l.vars = d.n(360), d.p(15), d.n(5), d.p(30)
	l.measure = pick(d, []string{"%dem", "%drem", "%dch"})
	l.lead, l.article, l.linkIcon, l.iconType = d.p(30), d.p(50), d.p(30), d.p(50)
	l.rowHeads, l.questions = d.p(25), d.n(5)
	l.colon = pick(d, []string{": ", " – ", " … ", ", ", " | ", " "})
	away := (l.hue + d.between(60, 300)) % 360
	if l.dark {
		l.palette["paper"] = l.colour(l.hue, d.n(30), d.between(7, 17))
		l.palette["ink"] = l.colour(l.hue, d.n(20), d.between(78, 93))
	} else {
		l.palette["paper"] = l.colour(l.hue, d.n(50), d.between(93, 100))
		l.palette["ink"] = l.colour(l.hue, d.n(40), d.between(8, 27))
	}
	l.palette["accent"] = l.colour(away, d.between(35, 90), d.between(28, 42)+30*b2i(l.dark))
	l.palette["muted"] = l.colour(l.hue, d.n(25), d.between(38, 52)+15*b2i(l.dark))
	l.palette["line"] = l.colour(l.hue, d.n(25), d.between(72, 88)-50*b2i(l.dark))
	l.palette["tint"] = l.colour(away, d.between(15, 60), d.between(88, 95)-72*b2i(l.dark))
	for _, key := range []string{"paper", "ink", "accent", "muted", "line", "tint"} {
		l.names[key] = "--" + d.one(map[string]string{"paper": "paper,bg,ground,back,page", "ink": "ink,fg,text,dark,body",
			"accent": "accent,link,main,hot,hi,brand", "muted": "muted,soft,dim,grey,quiet", "line": "line,edge,rule,border,hair",
			"tint": "tint,wash,box,fill,shade"}[key])
	}
	return l
}

// colour writes one as this author does; the parts are in degrees and percent.
func (l *look) colour(h, s, light int) string {
	light = min(max(light, 0), 100)
	f := func(n float64) int {
		k := math.Mod(n+float64(h)/30, 12)
		a := float64(s) / 100 * min(float64(light)/100, 1-float64(light)/100)
		return int(math.Round(255 * (float64(light)/100 - a*max(-1, min(k-3, 9-k, 1)))))
	}
	r, g, b := f(0), f(8), f(4)
	switch l.colours {
	case 0:
		return fmt.Sprintf("hsl(%d, %d%%, %d%%)", h, s, light)
	case 1:
		return fmt.Sprintf("rgb(%d,%d,%d)", r, g, b)
	case 2:
		return fmt.Sprintf("#%02X%02X%02X", r, g, b)
	case 3:
		return fmt.Sprintf("#%x%x%x", r/17, g/17, b/17)
	}
	return fmt.Sprintf("#%02x%02x%02x", r, g, b)
}

// use is a colour of the palette in a declaration.
func (l *look) use(key string) string {
	if l.vars {
		return "var(" + l.names[key] + ")"
	}
	return l.palette[key]
}

// part is the same for a role wherever it comes up.
func (l *look) part(role string) part {
	if p, ok := l.parts[role]; ok {
		return p
	}
	r := roles[role]
	if r.tags == "" {
		panic("smallsite: no role " + role)
	}
	p := part{tag: l.d.one(r.tags)}
	unique := slices.Contains(list("header,nav,main,footer,aside"), p.tag)
	switch {
	case unique && l.d.p(35), role == "list" && l.d.p(50), role == "table" && l.d.p(50), role == "img" && l.d.p(70), role == "date" && p.tag == "time" && l.d.p(50):
	case r.once && l.d.p(30):
		p.attr, p.name = "id", l.call(l.d.one(r.names))
	default:
		p.attr, p.name = "class", l.call(l.d.one(r.names))
	}
	if p.name == "" && role == "current" {
		p.attr, p.name = "class", l.call(l.d.one(r.names))
	}
	l.parts[role] = p
	l.order = append(l.order, role)
	return p
}

// call makes a class name of a word, as this author does, and never the same twice.
func (l *look) call(word string) string {
	name := word
	switch l.scheme {
	case 1:
		name = l.prefix + "-" + word
	case 2:
		name = l.prefix + strings.ReplaceAll(capital(word), "-", "")
	case 3:
		name = fmt.Sprintf("%s_%s", word, strconv.FormatInt(int64(l.d.n(60466176)), 36))
	case 4:
		name = strings.Map(func(r rune) rune {
			if strings.ContainsRune("aeiou-", r) {
				return -1
			}
			return r
		}, word)
		if len(name) < 2 {
			name = word
		}
	case 5:
		name = l.prefix + "__" + word
	case 6:
		name = l.d.one("b,c,d,f,g,h,k,m,r,s,t,v,w,x") + strconv.Itoa(l.d.n(90))
	}
	for l.taken[name] {
		name += l.d.one("2,x,-a,-b")
	}
	l.taken[name] = true
	return name
}

func (p part) selector() string {
	switch p.attr {
	case "class":
		return "." + p.name
	case "id":
		return "#" + p.name
	}
	return p.tag
}

type cssRule struct {
	selector string
	decls    []string // "property: value"
}

func (l *look) size(low, high float64) string {
	v := low + (high-low)*float64(l.d.n(41))/40
	if l.unit == "px" {
		return fmt.Sprintf("%dpx", int(math.Round(v*16)))
	}
	out := strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
	if l.hand.cssStyle%2 == 0 && len(out) > 1 {
		out = strings.TrimPrefix(out, "0")
	}
	return out + l.unit
}

func (l *look) font() string {
	serif := shuffle(l.d, list("Georgia,Palatino,Cambria,Charter,Garamond,Times New Roman,Baskerville,Bitstream Charter,Iowan Old Style,Book Antiqua"))
	sans := shuffle(l.d, list("Verdana,Helvetica,Arial,Segoe UI,Trebuchet MS,Tahoma,Gill Sans,Optima,Avenir,Candara,Lucida Grande,Helvetica Neue,Ubuntu,Noto Sans"))
	mono := shuffle(l.d, list("Courier New,Menlo,Consolas,Monaco,Courier,DejaVu Sans Mono"))
	of, end := sans, "sans-serif"
	switch n := l.d.n(10); {
	case n < 4:
		of, end = serif, "serif"
	case n == 9:
		of, end = mono, "monospace"
	case n == 8:
		return "system-ui, sans-serif"
	}
	var all []string
	for _, f := range of[:l.d.n(4)] {
		if strings.Contains(f, " ") {
			f = `"` + f + `"`
		}
		all = append(all, f)
	}
	return strings.Join(append(all, end), ", ")
}

// sheet is the style sheet, or, where the site has two, its first or last part.
func (l *look) sheet(last, first bool) []byte {
	if l.css == nil {
		l.css = l.write(l.rules())
		l.split = len(l.css)
		if i := strings.LastIndex(string(l.css[:len(l.css)*2/3]), "}"); i > 0 {
			l.split = i + 1
		}
	}
	switch {
	case last && first:
		return l.css
	case first:
		return l.css[:l.split]
	}
	return []byte(strings.TrimLeft(string(l.css[l.split:]), "\n"))
}

func (l *look) rules() []cssRule {
	d := l.d
	var all []cssRule
	// rule adds one with some of the declarations, in any order; those with a "!" in front are always there.
	rule := func(selector string, decls ...string) {
		var kept []string
		for _, s := range shuffle(d, decls) {
			if must, ok := strings.CutPrefix(s, "!"); ok {
				kept = append(kept, must)
			} else if s != "" && d.p(60) {
				kept = append(kept, s)
			}
		}
		if len(kept) > 0 {
			all = append(all, cssRule{selector, kept})
		}
	}
	border := func(side string) string {
		return fmt.Sprintf("border%s: %dpx %s %s", side, d.between(1, 4), d.one("solid,solid,dotted,dashed,double"), l.use(pick(d, []string{"line", "accent", "muted"})))
	}
	pad := func(low, high float64) string {
		if d.p(50) {
			return "padding: " + l.size(low, high)
		}
		return "padding: " + l.size(low, high) + " " + l.size(low, high)
	}
	width := "max-width: " + fmt.Sprintf(l.measure, d.between(30, 62))
	centre := pick(d, []string{"margin: 0 auto", "margin: " + l.size(0.5, 3) + " auto", "margin-left: auto", "margin-left: " + l.size(0.5, 4)})
	_, wrapped := l.parts["wrap0"]
	body := []string{"!font-family: " + l.font(), "!background: " + l.use("paper"), "!color: " + l.use("ink"),
		fmt.Sprintf("!line-height: %s", strconv.FormatFloat(float64(d.between(130, 180))/100, 'f', -1, 64)),
		"font-size: " + l.size(0.9, 1.3), "text-rendering: optimizeLegibility", "-webkit-text-size-adjust: 100%", "hyphens: auto", pad(0.5, 2.4)}
	if wrapped {
		rule("body", append(body, "!margin: 0")...)
	} else {
		rule("body", append(body, "!"+width, "!"+centre)...)
	}
	rule("a", "!color: "+l.use("accent"), "text-decoration: "+d.one("none,underline,underline dotted"), "text-underline-offset: "+l.size(0.1, 0.3), "text-decoration-thickness: "+d.one("1px,2px,from-font,.08em"))
	rule("a:hover", "color: "+l.use("ink"), "text-decoration: "+d.one("none,underline"), "background: "+l.use("tint"))
	if d.p(40) {
		rule("a:visited", "!color: "+l.use("muted"))
	}
	headFont := "font-family: " + l.font()
	heads := []string{"font-weight: " + d.one("normal,400,500,600,700,bold"), "line-height: " + d.one("1.1,1.15,1.2,1.25,1.3"), "letter-spacing: " + d.one("-.01em,-.02em,.02em,.04em,0"), headFont}
	if d.p(50) {
		rule(pick(d, []string{"h1, h2", "h1,h2,h3", "h2, h1", "h1, h2, h3, h4", "h3, h2, h1"}), heads...)
	} else {
		rule("h1", append(heads, "text-transform: "+d.one("none,lowercase,uppercase"))...)
	}
	rule("h1", "!font-size: "+l.size(1.4, 2.9), "margin: "+l.size(0, 2)+" 0 "+l.size(0.2, 1), "color: "+l.use(d.one("accent,ink,muted")))
	rule("h2", "!font-size: "+l.size(1.1, 1.7), "margin-top: "+l.size(1, 3), "margin-bottom: "+l.size(0.2, 0.9), border("-bottom"), "color: "+l.use(d.one("accent,ink,muted")))
	if d.p(60) {
		rule("h3", "!font-size: "+l.size(1, 1.3), "margin: "+l.size(1, 2)+" 0 "+l.size(0, 0.6), "font-style: "+d.one("italic,normal"))
	}
	rule("p", "margin: "+l.size(0.4, 1.2)+" 0", "max-width: "+fmt.Sprintf(l.measure, d.between(34, 70)), "text-wrap: pretty")
	if d.p(70) {
		rule("img", "!max-width: 100%", "height: auto", "vertical-align: "+d.one("middle,bottom,top"), border(""))
	}
	if d.p(40) {
		rule(pick(d, []string{"*", "*, *::before, *::after", "*,*:before,*:after", "html", ":root"}), "!box-sizing: border-box", "scroll-behavior: smooth")
	}
	rule("blockquote", "!margin: "+l.size(0.6, 2)+" "+l.size(0, 2.4), border("-left"), pad(0.2, 1.2), "font-style: italic", "color: "+l.use("muted"))
	rule(pick(d, []string{"td, th", "th, td", "td,th"}), "!padding: "+l.size(0.1, 0.7)+" "+l.size(0.3, 1), "text-align: left", border("-bottom"), "vertical-align: top")
	if d.p(50) {
		rule(pick(d, []string{"tr:nth-child(even)", "tbody tr:hover", "tr:nth-child(odd) td", "th"}), "!background: "+l.use("tint"))
	}
	rule("dt", "!font-weight: "+d.one("bold,600,normal,500"), "margin-top: "+l.size(0.2, 1), "color: "+l.use("muted"))
	rule("dd", "!margin: 0 0 "+l.size(0.2, 0.9)+" "+l.size(0, 2))
	if d.p(50) {
		rule("hr", "!border: 0", "!"+border("-top"), "margin: "+l.size(1, 3)+" 0")
	}
	for _, role := range l.order {
		s := l.parts[role].selector()
		switch role {
		case "wrap0", "inner0":
			if role == "inner0" && d.p(50) {
				continue
			}
			if l.parts["side"].tag != "" && l.parts["side"].tag != "td" && l.parts["cols"].tag == "" {
				rule(s, "!max-width: "+fmt.Sprintf(l.measure, d.between(54, 84)), "!"+centre, "!"+pick(d, []string{"display: flex", "display: grid;grid-template-columns: " + l.size(9, 16) + " 1fr"}), "!gap: "+l.size(1, 4), pad(0.5, 2))
			} else {
				rule(s, "!"+width, "!"+centre, pad(0.5, 2.5), "background: "+l.use(d.one("paper,tint")), border(""))
			}
		case "wrap1", "inner1":
			rule(s, pad(0, 1.5), border("-top"), "background: "+l.use("tint"))
		case "cols":
			rule(s, "!"+pick(d, []string{"display: flex", "display: grid;grid-template-columns: minmax(0, 1fr) " + l.size(10, 17)}), "!gap: "+l.size(1, 4), "align-items: "+d.one("flex-start,start,stretch"), "max-width: "+fmt.Sprintf(l.measure, d.between(54, 84)))
		case "head":
			rule(s, pad(0.5, 3), border("-bottom"), "margin-bottom: "+l.size(0.5, 3), "text-align: "+d.one("left,center,right"), "background: "+l.use("tint"), "display: "+d.one("block,flex"))
		case "brand":
			rule(s, "!font-size: "+l.size(1, 2.4), "font-weight: "+d.one("bold,600,normal,300"), headFont, "margin: 0", "letter-spacing: "+d.one("-.02em,.03em,.1em,0"), "text-transform: "+d.one("uppercase,lowercase,none"))
			if d.p(50) {
				rule(s+" a", "!color: inherit", "!text-decoration: none")
			}
		case "tagline", "date", "meta", "caption", "back":
			rule(s, "!color: "+l.use("muted"), "!font-size: "+l.size(0.75, 1), "font-style: "+d.one("italic,normal"), "margin: "+l.size(0, 0.5)+" 0")
		case "nav":
			rule(s, "margin: "+l.size(0.3, 2)+" 0", "font-size: "+l.size(0.85, 1.1), border(pick(d, []string{"-top", "-bottom"})), pad(0.1, 0.8))
			if d.p(75) {
				rule(s+pick(d, []string{" ul", " ol", " li", ""}), "!list-style: none", "!padding: 0", "margin: 0", "display: "+d.one("flex,block,flex"), "gap: "+l.size(0.4, 1.6), "flex-wrap: wrap")
			}
			rule(s+" a", "margin-right: "+l.size(0.2, 1.2), "padding: "+l.size(0.05, 0.4)+" 0", "font-weight: "+d.one("bold,normal,500"), "display: inline-block")
		case "item", "current":
			rule(s, "!font-weight: "+d.one("bold,600,500"), "margin-right: "+l.size(0.3, 1.2), border("-bottom"))
		case "main":
			rule(s, "!flex: 1", "min-width: 0", pad(0, 2), "!"+width, "background: "+l.use("paper"))
		case "side":
			rule(s, "font-size: "+l.size(0.8, 1), pad(0, 1.5), border(pick(d, []string{"-right", "-left", "-top"})), "color: "+l.use("muted"), "vertical-align: top", "flex: 0 0 "+l.size(10, 17))
		case "foot":
			rule(s, "!margin-top: "+l.size(1, 4), "!font-size: "+l.size(0.7, 0.95), border("-top"), "color: "+l.use("muted"), pad(0.3, 2), "text-align: "+d.one("left,center,right"))
		case "skip":
			rule(s, "!position: absolute", "!left: -"+strconv.Itoa(d.between(400, 9999))+"px")
		case "note", "card", "section", "part", "entry":
			if role != "note" && role != "card" && d.p(35) {
				continue
			}
			rule(s, "!margin: "+l.size(0.6, 2.6)+" 0", "background: "+l.use("tint"), pad(0.3, 1.6), border(pick(d, []string{"", "-left", "-top"})), fmt.Sprintf("border-radius: %dpx", d.between(2, 14)))
		case "lead":
			rule(s, "!font-size: "+l.size(1.05, 1.5), "color: "+l.use(d.one("ink,muted")), "line-height: "+d.one("1.4,1.5,1.35,1.6"))
		case "list", "posts":
			rule(s, "padding-left: "+l.size(0, 2), "list-style: "+d.one("none,square,circle,disc"), "line-height: "+d.one("1.5,1.7,1.8,2"), "columns: "+strconv.Itoa(d.between(1, 2)))
		case "table":
			rule(s, "!border-collapse: collapse", "width: "+d.one("100%,auto,80%"), "margin: "+l.size(0.6, 2)+" 0", "font-size: "+l.size(0.85, 1))
		case "figure", "img", "logo":
			rule(s, "margin: "+l.size(0.5, 2)+" 0", "max-width: "+d.one("100%,20em,24rem,340px,75%"), "text-align: "+d.one("left,center"), border(""))
		}
	}
	keep := 1 + d.n(3)
	all = append(all[:keep:keep], shuffle(d, all[keep:])...)
	if l.vars {
		vars := cssRule{selector: pick(d, []string{":root", "html", "body"})}
		for _, key := range shuffle(d, []string{"paper", "ink", "accent", "muted", "line", "tint"}) {
			vars.decls = append(vars.decls, l.names[key]+": "+l.palette[key])
		}
		all = append([]cssRule{vars}, all...)
	}
	return all
}

// write writes the rules as this author does, and at the end what differs on a narrow screen.
func (l *look) write(all []cssRule) []byte {
	var b strings.Builder
	tidy := func(decl string) string {
		if l.hand.cssStyle >= 4 {
			decl = strings.ReplaceAll(strings.Replace(decl, ": ", ":", 1), ", ", ",")
		}
		return decl
	}
	one := func(r cssRule, indent string) {
		decls := strings.Split(strings.Join(r.decls, ";"), ";")
		for i := range decls {
			decls[i] = tidy(decls[i])
		}
		step := l.hand.indent
		if step == "" {
			step = "  "
		}
		switch l.hand.cssStyle {
		case 0, 1:
			b.WriteString(indent + r.selector + " {\n")
			for _, x := range decls {
				b.WriteString(indent + step + x + ";\n")
			}
			b.WriteString(indent + "}\n" + map[bool]string{true: "\n"}[l.hand.cssStyle == 1 && indent == ""])
		case 2:
			b.WriteString(indent + r.selector + " { " + strings.Join(decls, "; ") + "; }\n")
		case 3:
			b.WriteString(indent + r.selector + "\n" + indent + "{\n")
			for _, x := range decls {
				b.WriteString(indent + step + x + ";\n")
			}
			b.WriteString(indent + "}\n")
		case 4:
			b.WriteString(strings.ReplaceAll(r.selector, ", ", ",") + "{" + strings.Join(decls, ";") + "}")
		case 5:
			b.WriteString(r.selector + "{" + strings.Join(decls, ";") + "}\n")
		}
	}
	for _, r := range all {
		one(r, "")
	}
	if side, ok := l.parts["side"]; ok && side.tag != "td" || l.d.p(30) {
		fmt.Fprintf(&b, "@media %s(max-width:%s%d%s) {\n", pick(l.d, []string{"", "screen and ", "only screen and "}), pick(l.d, []string{"", " "}), pick(l.d, []int{36, 40, 42, 45, 48, 50, 52, 38}), l.d.one("em,rem"))
		for _, role := range []string{"wrap0", "cols", "inner0"} {
			if p, ok := l.parts[role]; ok {
				one(cssRule{p.selector(), []string{"display: block"}}, l.hand.indent)
			}
		}
		one(cssRule{"body", []string{"font-size: " + l.size(0.9, 1.1)}}, l.hand.indent)
		b.WriteString("}\n")
	}
	return []byte(b.String())
}
