package keyinput

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/godwit-vpn/godwit/accesskey"
	"rsc.io/qr/coding"
)

func TestPictures(t *testing.T) {
	t.Parallel()
	img := code(t, 7)
	side := img.Bounds().Dx()
	inverted := image.NewGray(img.Bounds())
	clear := image.NewNRGBA(img.Bounds())
	for y := range side {
		for x := range side {
			c := color.GrayModel.Convert(img.At(x, y)).(color.Gray)
			inverted.SetGray(x, y, color.Gray{255 - c.Y})
			if c.Y == 0 {
				clear.Set(x, y, color.Black) // and all else is transparent
			}
		}
	}
	mirrored := image.NewGray(img.Bounds())
	for y := range side {
		for x := range side {
			mirrored.Set(side-1-x, y, img.At(x, y))
		}
	}
	// Not at the origin, as a picture cut out of another one is.
	offset := image.NewRGBA(image.Rect(-30, 40, side-30, side+40))
	draw.Draw(offset, offset.Rect, img, image.Point{}, draw.Src)

	for name, data := range map[string][]byte{
		"PNG":                   asPNG(t, img),
		"JPEG":                  asJPEG(t, img, 75),
		"JPEG, poor":            asJPEG(t, img, 10),
		"GIF":                   asGIF(t, img),
		"larger":                asPNG(t, place(img, 1100, 1100, 0, 1.7, 255)),
		"smaller":               asPNG(t, place(img, 340, 340, 0, 0.55, 255)),
		"tiny":                  asPNG(t, place(img, 150, 150, 0, 0.25, 255)),
		"larger, poor JPEG":     asJPEG(t, place(img, 1000, 1000, 0, 1.37, 255), 30),
		"smaller, poor JPEG":    asJPEG(t, place(img, 400, 400, 0, 0.6, 255), 40),
		"turned by 90":          asPNG(t, place(img, side, side, 90, 1, 255)),
		"turned by 180":         asPNG(t, place(img, side, side, 180, 1, 255)),
		"turned by 270":         asPNG(t, place(img, side, side, 270, 1, 255)),
		"turned by 12, JPEG":    asJPEG(t, place(img, 800, 800, 12, 1, 255), 60),
		"all at once":           asJPEG(t, place(img, 800, 800, 90, 0.9, 255), 35),
		"black and white":       asPNG(t, inverted),
		"on nothing":            asPNG(t, clear),
		"mirrored":              asPNG(t, mirrored),
		"cut out":               asPNG(t, offset),
		"on a dark page":        asPNG(t, place(img, 1200, 900, 0, 1, 30)),
		"photograph":            asJPEG(t, worsen(place(img, 1600, 1200, 4, 1.4, 120), 1), 70),
		"photograph, from afar": asJPEG(t, worsen(place(img, 2400, 1600, -7, 0.9, 90), 2), 80),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(name, "turned") {
				want(t, 7, "-", data)
			} else {
				want(t, 7, file(t, "qr", data), nil)
			}
		})
	}
}

// TestEveryCodeIsReadPlainly draws many keys and reads each as a plain scanner does: once and from one side.
func TestEveryCodeIsReadPlainly(t *testing.T) {
	t.Parallel()
	for seed := range byte(6) {
		text := testKey(seed).Text()
		if got, ok := scanGray(gray(code(t, seed), 1)); !ok || got != text {
			t.Errorf("seed %d: a plain scanner does not read the picture", seed)
		}
		if got, ok := scanGray(gray(screenshot(t, text, color.Gray{0}), 1)); !ok || got != text {
			t.Errorf("seed %d: a plain scanner does not read the terminal", seed)
		}
	}
}

// TestHardCodes reads codes that another program might have drawn, with a false corner mark in them. They were found by
// trying: a plain scanner fails on each.
func TestHardCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		seed byte
		mask coding.Mask
	}{{52, 3}, {76, 6}, {95, 3}, {95, 5}, {96, 2}, {109, 0}} {
		text := testKey(c.seed).Text()
		plan, err := coding.NewPlan(10, coding.L, c.mask)
		if err != nil {
			t.Fatal(err)
		}
		code, err := plan.Encode(coding.String(text))
		if err != nil {
			t.Fatal(err)
		}
		img := render(code, 3)
		if _, ok := scanGray(gray(img, 1)); ok {
			t.Errorf("seed %d, mask %d: no longer hard to read: find others", c.seed, c.mask)
		}
		if got, err := scan(img); err != nil || got != text {
			t.Errorf("seed %d, mask %d: %v", c.seed, c.mask, err)
		}
	}
}

// TestPenalty holds the four rules of ISO/IEC 18004 §8.8.2 against lines worked out by hand.
func TestPenalty(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"0101010101":           0,
		"1111010101":           0,
		"1111101010":           3,
		"1111111010":           5,
		"0000000000":           8,
		"01011101010101":       40,      // four white before it, three of them in the margin
		"1010101011101":        40,      // all four white after it in the margin
		"0000101110100001010":  80,      // four white on both sides
		"1000001011101010101":  40 + 3,  // five white before it
		"11010111010110101101": 0,       // no white beside it
		"1011101":              40 + 40, // both in the margin
	} {
		if got := linePenalty(len(line), func(i int) bool { return line[i] == '1' }); got != want {
			t.Errorf("%s: %d, want %d", line, got, want)
		}
	}
	// All white: each of the 2·21 lines 3+16, each of the 20·20 blocks 3, and 50 percent off balance.
	blank := &coding.Code{Bitmap: make([]byte, 21*3), Size: 21, Stride: 3}
	if got, want := penalty(blank), 42*19+400*3+100; got != want {
		t.Errorf("a blank code: %d, want %d", got, want)
	}
}

func TestPicturesWithoutKey(t *testing.T) {
	t.Parallel()
	noise := image.NewGray(image.Rect(0, 0, 120, 120))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise.Pix {
		noise.Pix[i] = uint8(r.UintN(256))
	}
	// More corner marks than the finder should compare.
	marks := image.NewGray(image.Rect(0, 0, 600, 600))
	for i := range marks.Pix {
		marks.Pix[i] = 255
	}
	for y := range 24 {
		for x := range 24 {
			for _, ring := range []struct {
				inset, grey int
			}{{0, 0}, {3, 255}, {6, 0}} {
				at := image.Rect(x*25, y*25, x*25+21, y*25+21).Inset(ring.inset)
				draw.Draw(marks, at, image.NewUniform(color.Gray{uint8(ring.grey)}), image.Point{}, draw.Src)
			}
		}
	}
	cut := place(code(t, 8), 200, 400, 0, 0.7, 255)
	for name, img := range map[string]image.Image{
		"white":        place(image.NewGray(image.Rect(0, 0, 1, 1)), 200, 100, 0, 0.001, 255),
		"noise":        noise,
		"corner marks": marks,
		"half a code":  cut,
		"one pixel":    image.NewGray(image.Rect(0, 0, 1, 1)),
		"one line":     image.NewGray(image.Rect(0, 0, 1500, 1)),
		"one column":   image.NewGray(image.Rect(0, 0, 1, 1500)),
	} {
		_, _, err := Read("-", bytes.NewReader(asPNG(t, img)), noEnv)
		if !errors.Is(err, ErrNoQR) || !strings.HasPrefix(err.Error(), "standard input: no QR code") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, is := range map[string]error{
		"https://example.org/":                   accesskey.ErrNotKey,
		testKey(8).Text()[:120]:                  accesskey.ErrTruncated,
		strings.ToLower(testKey(8).Text()):       accesskey.ErrMangled,
		"WIFI:S:home;T:WPA;P:correct horse;;":    accesskey.ErrNotKey,
		"BEGIN:VCARD\nFN:Анна Ивановна\nEND:...": accesskey.ErrNotKey,
	} {
		data, err := PNG(text)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Read("-", bytes.NewReader(data), noEnv)
		if !errors.Is(err, is) || !strings.Contains(err.Error(), "QR code") {
			t.Errorf("a code of %.20q: %v", text, err)
		}
	}
}

// The size of a picture is refused before anything of that size is made.
func TestLargePictures(t *testing.T) {
	t.Parallel()
	claim := func(w, h uint32) []byte {
		data := asPNG(t, image.NewGray(image.Rect(0, 0, 1, 1)))
		header := data[12 : 12+4+13]
		binary.BigEndian.PutUint32(header[4:], w)
		binary.BigEndian.PutUint32(header[8:], h)
		binary.BigEndian.PutUint32(data[12+4+13:], crc32.ChecksumIEEE(header))
		return data
	}
	for _, size := range [][2]uint32{{100_000, 100_000}, {maxSide + 1, 1}, {1, maxSide + 1}, {5000, 5000}} {
		_, _, err := Read("-", bytes.NewReader(claim(size[0], size[1])), noEnv)
		if err == nil || !strings.Contains(err.Error(), "pixels, more than") {
			t.Errorf("a picture of %v: %v", size, err)
		}
	}
	_, _, err := Read("-", bytes.NewReader(claim(2, 2)), noEnv)
	if err == nil || !strings.Contains(err.Error(), "damaged PNG") {
		t.Errorf("a picture that lies about its size: %v", err)
	}
}

// screenshot draws what Terminal writes as a terminal of that background would, 8 by 16 pixels to a character.
func screenshot(t *testing.T, text string, background color.Gray) image.Image {
	t.Helper()
	var b bytes.Buffer
	if err := Terminal(&b, text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	columns, err := Columns(text)
	if err != nil {
		t.Fatal(err)
	}
	out := image.NewGray(image.Rect(0, 0, 8*(columns+10), 16*(len(lines)+6)))
	draw.Draw(out, out.Rect, image.NewUniform(background), image.Point{}, draw.Src)
	for y, line := range lines {
		line, begins := strings.CutPrefix(line, "\x1b[38;5;16;48;5;231m")
		line, ends := strings.CutSuffix(line, "\x1b[0m")
		if !begins || !ends || strings.Contains(line, "\x1b") {
			t.Fatalf("line %d does not set its colours and put them back", y)
		}
		if n := utf8.RuneCountInString(line); n != columns {
			t.Fatalf("line %d has %d columns instead of %d", y, n, columns)
		}
		for x, r := range []rune(line) {
			upper, lower := color.Gray{255}, color.Gray{255}
			switch r {
			case '█':
				upper, lower = color.Gray{0}, color.Gray{0}
			case '▀':
				upper = color.Gray{0}
			case '▄':
				lower = color.Gray{0}
			case ' ':
			default:
				t.Fatalf("line %d holds %q", y, r)
			}
			at := image.Rect(8*(x+5), 16*(y+3), 8*(x+6), 16*(y+3)+8)
			draw.Draw(out, at, image.NewUniform(upper), image.Point{}, draw.Src)
			draw.Draw(out, at.Add(image.Pt(0, 8)), image.NewUniform(lower), image.Point{}, draw.Src)
		}
	}
	return out
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	for name, background := range map[string]color.Gray{"dark": {0}, "light": {255}, "grey": {90}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want(t, 9, "-", asPNG(t, screenshot(t, testKey(9).Text(), background)))
		})
	}
	if n, err := Columns(testKey(9).Text()); err != nil || n > 80 {
		t.Errorf("a key of one gateway needs %d columns, %v: more than a terminal has", n, err)
	}
}

func TestTooLongForQR(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3000)
	if _, err := PNG(long); err == nil || !strings.Contains(err.Error(), "3000 bytes do not fit") {
		t.Errorf("PNG: %v", err)
	}
	if _, err := Columns(long); err == nil {
		t.Error("Columns succeeded")
	}
	var b bytes.Buffer
	if err := Terminal(&b, long); err == nil || b.Len() > 0 {
		t.Errorf("Terminal: %v, wrote %d bytes", err, b.Len())
	}
}
