package keyinput

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"slices"

	"rsc.io/qr/coding"
)

// quiet is the width of the white margin in modules (ISO/IEC 18004 §9.1).
const quiet = 4

// moduleSize is a module's width in a PNG, in pixels: sharp after a chat program has halved the picture.
const moduleSize = 8

// encode makes the QR code of text: the smallest that holds it, under the mask that is read most easily. Of the first
// mask, which the package's own Encode always takes, one in thirty codes of a key has a mark in its middle that ZXing
// takes for a corner, and of the mask with the least penalty one in fifty. So it is also read back.
func encode(text string, level coding.Level) (*coding.Code, error) {
	data := coding.String(text)
	version := coding.Version(coding.MinVersion)
	for data.Bits(version) > version.DataBytes(level)*8 {
		if version++; version > coding.MaxVersion {
			return nil, fmt.Errorf("%d bytes do not fit into a QR code", len(text))
		}
	}
	var codes []*coding.Code
	for mask := range coding.Mask(8) {
		plan, err := coding.NewPlan(version, level, mask)
		if err != nil {
			return nil, fmt.Errorf("QR code: %w", err)
		}
		c, err := plan.Encode(data)
		if err != nil {
			return nil, fmt.Errorf("QR code: %w", err)
		}
		codes = append(codes, c)
	}
	slices.SortStableFunc(codes, func(a, b *coding.Code) int { return cmp.Compare(penalty(a), penalty(b)) })
	for _, c := range codes {
		if read, ok := scanGray(gray(render(c, 4), 1)); ok && read == text {
			return c, nil
		}
	}
	return codes[0], nil // a scanner that turns it or moves a little will read it
}

// render draws c with its margin, so many pixels to a module.
func render(c *coding.Code, pixels int) *image.Paletted {
	side := (c.Size + 2*quiet) * pixels
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range side {
		for x := range side {
			if c.Black(x/pixels-quiet, y/pixels-quiet) {
				img.Pix[y*img.Stride+x] = 1
			}
		}
	}
	return img
}

// penalty is how hard a code is to read: ISO/IEC 18004 §8.8.2, table 24.
func penalty(c *coding.Code) int {
	p, dark := 0, 0
	for y := range c.Size {
		p += linePenalty(c.Size, func(i int) bool { return c.Black(i, y) })
		p += linePenalty(c.Size, func(i int) bool { return c.Black(y, i) })
		for x := range c.Size {
			v := c.Black(x, y)
			if v {
				dark++
			}
			if x > 0 && y > 0 && v == c.Black(x-1, y) && v == c.Black(x, y-1) && v == c.Black(x-1, y-1) {
				p += 3
			}
		}
	}
	percent := 100 * dark / (c.Size * c.Size)
	return p + max(percent-50, 50-percent)/5*10
}

// linePenalty judges a row or a column: long runs of one colour, and what looks like a cut through a corner mark.
func linePenalty(size int, black func(int) bool) int {
	// A corner mark's black, white, 3 black, white, black with 4 white on a side, as bits; the other side is its mirror.
	const mark, mirror, bits = 0b0000_1011101, 0b1011101_0000, 1<<11 - 1
	p, run, last := 0, 0, 0
	for i := -quiet; i < size+quiet; i++ {
		inside := 0 <= i && i < size
		v := inside && black(i)
		if i > 0 && inside && v == (last&1 == 1) {
			run++
		} else {
			run = 1
		}
		if inside {
			if run == 5 {
				p += 3
			} else if run > 5 {
				p++
			}
		}
		last = last << 1 & bits
		if v {
			last |= 1
		}
		if i >= -quiet+10 && (last == mark || last == mirror) {
			p += 40
		}
	}
	return p
}

// Columns is how many columns of a terminal Terminal needs for text. In a narrower one the code would be broken.
func Columns(text string) (int, error) {
	c, err := encode(text, coding.L)
	if err != nil {
		return 0, err
	}
	return c.Size + 2*quiet, nil
}

// The colours of a code on a terminal are set, never left to it, so that it is black on white whatever the theme: 16
// and 231 are black and white in the 256-colour cube, which themes leave alone, unlike the first sixteen.
const (
	ink   = "\x1b[38;5;16;48;5;231m"
	plain = "\x1b[0m"
)

// Terminal draws the QR code of text on a terminal of at least Columns columns, two modules to a character.
func Terminal(w io.Writer, text string) error {
	c, err := encode(text, coding.L)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for y := -quiet; y < c.Size+quiet; y += 2 {
		b.WriteString(ink)
		for x := -quiet; x < c.Size+quiet; x++ {
			switch upper, lower := c.Black(x, y), c.Black(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString(plain + "\n")
	}
	_, err = w.Write(b.Bytes())
	return err
}

// PNG is a picture of the QR code of text. It corrects more errors than the terminal's: pictures get compressed.
func PNG(text string) ([]byte, error) {
	c, err := encode(text, coding.M)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, render(c, moduleSize)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
