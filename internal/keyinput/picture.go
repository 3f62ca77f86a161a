package keyinput

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// ErrNoQR: a picture holds no QR code that can be read.
var ErrNoQR = errors.New(
	"no QR code could be read in the picture: take it straight on, sharp, with the white margin around it")

// kind is a kind of file told by its first bytes.
type kind struct {
	name   string
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error) // nil for one that we cannot read but can name
}

func sniff(data []byte) kind {
	at := func(i int, magic string) bool {
		return len(data) >= i+len(magic) && string(data[i:i+len(magic)]) == magic
	}
	switch {
	case at(0, "\x89PNG\r\n\x1a\n"):
		return kind{"PNG picture", png.DecodeConfig, png.Decode}
	case at(0, "\xff\xd8\xff"):
		return kind{"JPEG picture", jpeg.DecodeConfig, jpeg.Decode}
	case at(0, "GIF87a"), at(0, "GIF89a"):
		return kind{"GIF picture", gif.DecodeConfig, gif.Decode}
	case at(0, "RIFF") && at(8, "WEBP"):
		return kind{name: "WebP picture"}
	case at(4, "ftyp"):
		return kind{name: "HEIC or AVIF picture or a film"}
	case at(0, "II*\x00"), at(0, "MM\x00*"):
		return kind{name: "TIFF picture"}
	case at(0, "BM") && at(6, "\x00\x00\x00\x00"):
		return kind{name: "BMP picture"}
	case at(0, "%PDF-"):
		return kind{name: "PDF document"}
	}
	return kind{}
}

// fromPicture reads the key in a picture of a QR code. Its size is known before it is decoded.
func fromPicture(data []byte, k kind) (accesskey.Key, error) {
	c, err := k.config(bytes.NewReader(data))
	if err != nil {
		return accesskey.Key{}, fmt.Errorf("a damaged %s: %w", k.name, err)
	}
	if c.Width <= 0 || c.Height <= 0 || c.Width > maxSide || c.Height > maxSide || c.Width*c.Height > maxPixels {
		return accesskey.Key{}, fmt.Errorf("a %s of %d by %d pixels, more than %d million in all or %d along a side: "+
			"cut out the QR code or make it smaller", k.name, c.Width, c.Height, maxPixels/1_000_000, maxSide)
	}
	img, err := k.decode(bytes.NewReader(data))
	if err != nil {
		return accesskey.Key{}, fmt.Errorf("a damaged %s: %w", k.name, err)
	}
	found, err := scan(img)
	if err != nil {
		return accesskey.Key{}, err
	}
	key, err := accesskey.Parse(found)
	if err != nil {
		return accesskey.Key{}, fmt.Errorf("the QR code in the picture: %w", err)
	}
	return key, nil
}

// scan finds a QR code in img. Photographs are tried smaller first, where noise is averaged away; then larger, for a
// code that is a small part of them; and each also with black and white swapped. Each is tried from all four sides:
// the finder stops at the third mark that might be a corner, and one in fifty codes has a false one on its way.
func scan(img image.Image) (string, error) {
	side := max(img.Bounds().Dx(), img.Bounds().Dy())
	tried := map[int]bool{}
	for _, target := range []int{1400, 2800, 700} {
		shrink := (side + target - 1) / target
		if tried[shrink] {
			continue
		}
		tried[shrink] = true
		g := gray(img, shrink)
		if side < 500 {
			g = enlarge(g, 3)
		}
		for range 2 {
			for range 4 {
				if text, ok := scanGray(g); ok {
					return text, nil
				}
				g = turn(g)
			}
			for i := range g.Pix {
				g.Pix[i] = 255 - g.Pix[i]
			}
		}
	}
	return "", ErrNoQR
}

// gray is img on white paper, each shrink by shrink pixels averaged into one.
func gray(img image.Image, shrink int) *image.Gray {
	b := img.Bounds()
	w, h := max(b.Dx()/shrink, 1), max(b.Dy()/shrink, 1)
	out := image.NewGray(image.Rect(0, 0, w, h))
	row := image.NewRGBA(image.Rect(0, 0, b.Dx(), 1))
	sums := make([]int, w)
	for y := range h {
		clear(sums)
		n := 0
		for i := 0; i < shrink && y*shrink+i < b.Dy(); i++ {
			draw.Draw(row, row.Rect, image.White, image.Point{}, draw.Src)
			draw.Draw(row, row.Rect, img, image.Pt(b.Min.X, b.Min.Y+y*shrink+i), draw.Over)
			for x := range min(w*shrink, b.Dx()) {
				p := row.Pix[4*x : 4*x+3]
				sums[x/shrink] += (int(p[0]) + 2*int(p[1]) + int(p[2])) / 4
			}
			n++
		}
		for x, s := range sums {
			out.Pix[y*out.Stride+x] = uint8(s / (n * min(shrink, b.Dx())))
		}
	}
	return out
}

// enlarge makes each pixel n by n of them: the finder wants more than one or two pixels for a module.
func enlarge(g *image.Gray, n int) *image.Gray {
	out := image.NewGray(image.Rect(0, 0, g.Rect.Dx()*n, g.Rect.Dy()*n))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			out.SetGray(x, y, color.Gray{Y: g.Pix[y/n*g.Stride+x/n]})
		}
	}
	return out
}

// turn is g turned by 90 degrees.
func turn(g *image.Gray) *image.Gray {
	w, h := g.Rect.Dx(), g.Rect.Dy()
	out := image.NewGray(image.Rect(0, 0, h, w))
	for y := range h {
		for x := range w {
			out.Pix[x*out.Stride+h-1-y] = g.Pix[y*g.Stride+x]
		}
	}
	return out
}

// maxFinders bounds the corner marks that the finder may see in a picture: it compares every three of them.
const maxFinders = 200

// errFinders stops the finder from inside its callback, which has no other way out.
var errFinders = errors.New("too many corner marks")

// scanGray looks for a QR code once with each way of telling black from white. A picture is bytes from outside and the
// decoder is not ours: whatever it panics with, there is no code in the picture that it can read.
func scanGray(g *image.Gray) (text string, ok bool) {
	w, h := g.Rect.Dx(), g.Rect.Dy()
	// A grey picture is the first plane of such a one. The stride is the width, for we made the picture.
	source, err := gozxing.NewPlanarYUVLuminanceSource(g.Pix, w, h, 0, 0, w, h, false)
	if err != nil {
		return "", false
	}
	for _, binarizer := range []gozxing.Binarizer{
		gozxing.NewHybridBinarizer(source), gozxing.NewGlobalHistgramBinarizer(source),
	} {
		if text, ok = scanOnce(binarizer); ok {
			return text, true
		}
	}
	return "", false
}

func scanOnce(b gozxing.Binarizer) (text string, ok bool) {
	defer func() {
		if recover() != nil {
			text, ok = "", false
		}
	}()
	bitmap, err := gozxing.NewBinaryBitmap(b)
	if err != nil {
		return "", false
	}
	finders := 0
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{
		gozxing.DecodeHintType_TRY_HARDER: true,
		gozxing.DecodeHintType_NEED_RESULT_POINT_CALLBACK: gozxing.ResultPointCallback(func(gozxing.ResultPoint) {
			if finders++; finders > maxFinders {
				panic(errFinders)
			}
		}),
	})
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(result.GetText()), true
}
