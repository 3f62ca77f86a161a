package keyinput

import (
	"bytes"
	"crypto/sha256"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
)

// testKey is a valid key that depends on seed alone.
func testKey(seed byte) accesskey.Key {
	hash := func(what string) [32]byte { return sha256.Sum256(append([]byte(what), seed)) }
	id, secret, dir := hash("id"), hash("secret"), hash("dir")
	return accesskey.Key{
		ID: accesskey.ID(id[:8]), Secret: accesskey.NewSecret([16]byte(secret[:16])), Pin: hash("pin"), NextPin: hash("next"),
		Endpoints:    []accesskey.Endpoint{{Host: strings.Repeat("a", 20+int(seed)%20) + ".gate.example"}},
		DirectoryKey: dir[:], Label: "Ann's phone",
	}
}

func noEnv(string) string { return "" }

// want checks that Read(arg, stdin) gives testKey(seed).
func want(t *testing.T, seed byte, arg string, stdin []byte) {
	t.Helper()
	k, source, err := Read(arg, bytes.NewReader(stdin), noEnv)
	if err != nil {
		t.Errorf("%s: %v", source, err)
		return
	}
	if k.Text() != testKey(seed).Text() {
		t.Errorf("%s: read another key: %v", source, k)
	}
}

// file writes data to a new file and returns its path.
func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// code is the picture PNG makes of a key.
func code(t testing.TB, seed byte) image.Image {
	t.Helper()
	data, err := PNG(testKey(seed).Text())
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func asPNG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(t testing.TB, img image.Image, quality int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asGIF(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gif.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// place draws img on a w by h canvas of another grey, turned by degrees around the middle and scaled, each pixel the
// mix of the four it falls between.
func place(img image.Image, w, h int, degrees, scale float64, paper uint8) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	b := img.Bounds()
	grey := image.NewGray(b)
	draw.Draw(grey, b, img, b.Min, draw.Src)
	at := func(x, y int) float64 {
		if !image.Pt(x, y).In(b) {
			return float64(paper)
		}
		return float64(grey.GrayAt(x, y).Y)
	}
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	for y := range h {
		for x := range w {
			dx, dy := (float64(x)+0.5-float64(w)/2)/scale, (float64(y)+0.5-float64(h)/2)/scale
			sx := cos*dx + sin*dy + float64(b.Dx())/2 - 0.5
			sy := -sin*dx + cos*dy + float64(b.Dy())/2 - 0.5
			x0, y0 := int(math.Floor(sx)), int(math.Floor(sy))
			fx, fy := sx-float64(x0), sy-float64(y0)
			v := (at(x0, y0)*(1-fx)+at(x0+1, y0)*fx)*(1-fy) + (at(x0, y0+1)*(1-fx)+at(x0+1, y0+1)*fx)*fy
			out.SetRGBA(x, y, color.RGBA{uint8(v), uint8(v), uint8(v), 255})
		}
	}
	return out
}

// worsen makes a photograph of it: light that falls off to one side, a tint and noise.
func worsen(img *image.RGBA, seed uint64) *image.RGBA {
	r := rand.New(rand.NewPCG(seed, 1))
	b := img.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			c := img.RGBAAt(x, y)
			light := 0.9 - 0.4*float64(x)/float64(b.Dx())
			shade := func(v uint8, tint float64) uint8 {
				return uint8(min(255, max(0, (20+float64(v)*0.8)*light*tint+r.NormFloat64()*12)))
			}
			img.SetRGBA(x, y, color.RGBA{shade(c.R, 1.1), shade(c.G, 1), shade(c.B, 0.8), 255})
		}
	}
	return img
}
