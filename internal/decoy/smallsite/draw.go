package smallsite

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"strconv"
	"strings"
)

// drawPicture draws shapes in the site's colours.
func drawPicture(d *dice, l *look, h *hand) picture {
	p := picture{w: d.between(12, 40) * 10, h: d.between(8, 26) * 10}
	var b strings.Builder
	root := []attr{{"xmlns", "http://www.w3.org/2000/svg"}, {"viewBox", fmt.Sprintf("0 0 %d %d", p.w, p.h)}}
	if d.p(50) {
		root = append(root, attr{"width", strconv.Itoa(p.w)}, attr{"height", strconv.Itoa(p.h)})
	}
	n := node{tag: "svg", attrs: shuffle(d, root)}
	hue := func() string {
		return l.colour((l.hue+d.between(-40, 220)+360)%360, d.between(15, 75), d.between(25, 85))
	}
	num := func(v float64) string {
		return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
	}
	ground := l.palette["tint"]
	if d.p(75) {
		n.kids = append(n.kids, node{tag: "rect", attrs: shuffle(d, []attr{{"width", strconv.Itoa(p.w)}, {"height", strconv.Itoa(p.h)}, {"fill", ground}})})
	}
	w, ht := float64(p.w), float64(p.h)
	fill := func(a ...attr) []attr {
		if d.p(25) {
			a = append(a, attr{"opacity", "." + strconv.Itoa(d.between(3, 9))})
		}
		return shuffle(d, append(a, attr{"fill", hue()}))
	}
	switch d.n(8) {
	case 0: // hills
		for i := range d.between(2, 5) {
			y := ht * (0.3 + 0.15*float64(i))
			path := "M0 " + num(ht) + " L0 " + num(y)
			for x := 0.0; x < w; x += w / float64(d.between(2, 5)) {
				path += fmt.Sprintf(" Q%s %s %s %s", num(x+w/8), num(y-float64(d.n(p.h/3+1))), num(x+w/3), num(y+float64(d.n(20))))
			}
			n.kids = append(n.kids, node{tag: "path", attrs: fill(attr{"d", path + " L" + num(w) + " " + num(ht) + "z"})})
		}
	case 1: // discs
		for range d.between(3, 14) {
			n.kids = append(n.kids, node{tag: "circle", attrs: fill(attr{"cx", strconv.Itoa(d.n(p.w))}, attr{"cy", strconv.Itoa(d.n(p.h))}, attr{"r", strconv.Itoa(d.between(3, p.h/3))})})
		}
	case 2: // bars
		count := d.between(4, 16)
		for i := range count {
			tall := float64(d.between(10, p.h-5))
			n.kids = append(n.kids, node{tag: "rect", attrs: fill(attr{"x", num(w * float64(i) / float64(count))}, attr{"y", num(ht - tall)}, attr{"width", num(w / float64(count) * 0.8)}, attr{"height", num(tall)})})
		}
	case 3: // waves
		for range d.between(3, 9) {
			y := float64(d.n(p.h))
			path := "M0 " + num(y)
			for x := 0.0; x < w; x += w / 6 {
				path += fmt.Sprintf(" q%s %d %s 0", num(w/12), d.between(-30, 30), num(w/6))
			}
			n.kids = append(n.kids, node{tag: "path", attrs: shuffle(d, []attr{{"d", path}, {"fill", "none"}, {"stroke", hue()}, {"stroke-width", strconv.Itoa(d.between(1, 6))}})})
		}
	case 4: // tiles
		side := d.between(12, 36)
		for y := 0; y < p.h; y += side {
			for x := 0; x < p.w; x += side {
				if d.p(35) {
					n.kids = append(n.kids, node{tag: "rect", attrs: fill(attr{"x", strconv.Itoa(x)}, attr{"y", strconv.Itoa(y)}, attr{"width", strconv.Itoa(side - 2)}, attr{"height", strconv.Itoa(side - 2)})})
				}
			}
		}
	case 5: // leaves
		for range d.between(3, 11) {
			x, y, s := d.n(p.w), d.n(p.h), d.between(8, 40)
			n.kids = append(n.kids, node{tag: "path", attrs: append(fill(attr{"d", fmt.Sprintf("M%d %dq%d-%d %d 0q-%d %d-%d 0", x, y, s/2, s/2+d.n(9), s, s/2, s/2+d.n(9), s)}), attr{"transform", fmt.Sprintf("rotate(%d %d %d)", d.n(360), x, y)})})
		}
	case 6: // lines
		var points []string
		for i := range d.between(5, 15) {
			points = append(points, fmt.Sprintf("%d,%d", i*p.w/14, d.n(p.h)))
		}
		n.kids = append(n.kids, node{tag: "polyline", attrs: shuffle(d, []attr{{"points", strings.Join(points, " ")}, {"fill", "none"}, {"stroke", hue()}, {"stroke-width", strconv.Itoa(d.between(1, 7))}})})
		for range d.n(4) {
			n.kids = append(n.kids, node{tag: "circle", attrs: fill(attr{"cx", strconv.Itoa(d.n(p.w))}, attr{"cy", strconv.Itoa(d.n(p.h))}, attr{"r", strconv.Itoa(d.between(2, 9))})})
		}
	case 7: // polygons
		for range d.between(2, 7) {
			cx, cy, r, corners := float64(d.n(p.w)), float64(d.n(p.h)), float64(d.between(10, p.h/2)), d.between(3, 8)
			var points []string
			for i := range corners {
				a := 2 * math.Pi * float64(i) / float64(corners)
				points = append(points, num(cx+r*math.Cos(a))+","+num(cy+r*math.Sin(a)))
			}
			n.kids = append(n.kids, node{tag: "polygon", attrs: fill(attr{"points", strings.Join(points, " ")})})
		}
	}
	pen := *h
	pen.bare, pen.open, pen.last, pen.reverse = false, false, "", false
	pen.render(&b, n, 0)
	if h.trailing {
		b.WriteString("\n")
	}
	p.body = []byte(b.String())
	return p
}

// makeIcons draws the icon: a small symmetric pattern, as browsers ask for it by themselves.
func (p *plan) makeIcons(d *dice) {
	side := pick(d, []int{16, 32, 48, 24, 64})
	cells := d.between(4, 8)
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	tint := func(light int) color.NRGBA {
		return color.NRGBA{uint8(d.n(200) + light), uint8(d.n(200) + light), uint8(d.n(200) + light), 255}
	}
	back, front, third := tint(55), tint(0), tint(20)
	if d.p(40) {
		back = color.NRGBA{}
	}
	grid := make([]int, cells*cells)
	for i := range grid {
		grid[i] = max(0, d.n(5)-2)
	}
	mirror := d.p(80)
	for y := range side {
		for x := range side {
			cx, cy := x*cells/side, y*cells/side
			if mirror && cx >= (cells+1)/2 {
				cx = cells - 1 - cx
			}
			img.SetNRGBA(x, y, []color.NRGBA{back, front, third}[grid[cy*cells+cx]])
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // only a writer's error, and this one has none
	}
	switch d.n(4) {
	case 0, 1: // an .ico may hold a PNG
		head := make([]byte, 22)
		le := binary.LittleEndian
		le.PutUint16(head[2:], 1) // an icon
		le.PutUint16(head[4:], 1) // one image
		head[6], head[7] = byte(side), byte(side)
		le.PutUint16(head[10:], 1)  // planes
		le.PutUint16(head[12:], 32) // bits per pixel
		le.PutUint32(head[14:], uint32(b.Len()))
		le.PutUint32(head[18:], uint32(len(head)))
		p.icons = append(p.icons, file{name: "favicon.ico", body: append(head, b.Bytes()...)})
	case 2:
		p.icons = append(p.icons, file{name: d.one("favicon.png,icon.png," + p.picDir + "icon.png,icon-" + strconv.Itoa(side) + ".png"), body: b.Bytes()})
	case 3:
		pic := drawPicture(d, p.look, p.hand)
		p.icons = append(p.icons, file{name: d.one("favicon.svg,icon.svg," + p.picDir + "mark.svg,logo.svg"), body: pic.body})
	}
}
