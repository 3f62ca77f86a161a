package visitors

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

// CompareRequests says where what follows one's hello differs from what follows the other's.
func CompareRequests(t *testing.T, visit string, browser, ours *Conn) (differences []string) {
	t.Helper()
	want, err := ReadOpening(browser)
	if err != nil {
		t.Fatalf("%s: the browser: %v", visit, err)
	}
	want.AsMost()
	got, err := ReadOpening(ours)
	if err != nil {
		t.Fatalf("%s: ours: %v", visit, err)
	}
	for _, d := range FieldDifferences(want.describe(), got.describe(), "the browser", "ours") {
		differences = append(differences, "  "+visit+", "+d)
	}
	return differences
}

// An Opening is what a client sends after its hello, up to SETTINGS ACK.
type Opening struct {
	handshake []Record // change_cipher_spec and Finished
	records   []string // the frames in each record after these
	sizes     []int    // and the record's size

	settings []string
	Window   uint32
	Stream   [2]uint32 // of the request: its number and its WINDOW_UPDATE
	headers  string    // what the HEADERS frame has besides the fields
	Fields   []hpack.HeaderField
	hpack    string // "x/net's", or what else
	Priority http2.PriorityParam
	Values   []http2.Setting
}

// ReadOpening reads a connection's opening.
func ReadOpening(c *Conn) (*Opening, error) {
	o := &Opening{}
	var up []Record
	for _, r := range c.Records {
		if r.Up {
			up = append(up, r)
		}
	}
	if len(up) < 3+len(c.Plain) {
		return nil, fmt.Errorf("%d records for %d writes", len(up), len(c.Plain))
	}
	o.handshake, up = up[1:3], up[3:]
	acked := false
	for i, plain := range c.Plain {
		ack, err := o.read(i, plain)
		if err != nil {
			return nil, err
		}
		o.sizes = append(o.sizes, up[i].Size)
		if acked = acked || ack; acked && len(o.Fields) > 0 {
			break
		}
	}
	if len(o.records) < 3 || o.Fields == nil {
		return nil, fmt.Errorf("no opening: %q", o.records)
	}
	// The server's SETTINGS may be quicker than a browser's first request.
	if o.records[1] == settingsAck {
		o.records[1], o.records[2] = o.records[2], o.records[1]
		o.sizes[1], o.sizes[2] = o.sizes[2], o.sizes[1]
	}
	return o, nil
}

const settingsAck = "SETTINGS ACK"

// read reads one record's content, and says whether SETTINGS ACK was in it.
func (o *Opening) read(i int, plain []byte) (ack bool, err error) {
	var frames []string
	if rest, ok := bytes.CutPrefix(plain, []byte(http2.ClientPreface)); ok && i == 0 {
		frames, plain = append(frames, "preface"), rest
	}
	in := bytes.NewReader(plain)
	framer := http2.NewFramer(nil, in)
	for in.Len() > 0 {
		f, err := framer.ReadFrame()
		if err != nil {
			return false, fmt.Errorf("record %d is not whole frames: %w", i, err)
		}
		frames = append(frames, f.Header().Type.String())
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				frames[len(frames)-1], ack = settingsAck, true
				break
			}
			_ = f.ForeachSetting(func(s http2.Setting) error {
				o.Values = append(o.Values, s)
				o.settings = append(o.settings, fmt.Sprintf("%d=%d", s.ID, s.Val))
				return nil
			})
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				o.Window = f.Increment
			} else {
				o.Stream[1] = f.Increment
			}
		case *http2.HeadersFrame:
			block := f.HeaderBlockFragment()
			o.Priority, o.Stream[0] = f.Priority, f.StreamID
			o.headers = fmt.Sprintf("stream %d, flags %02x, depends on %d, exclusive %v, weight %d", f.StreamID, f.Flags,
				f.Priority.StreamDep, f.Priority.Exclusive, int(f.Priority.Weight)+1)
			if o.Fields, err = hpack.NewDecoder(4096, nil).DecodeFull(block); err != nil {
				return false, err
			}
			if o.hpack = "x/net's"; !bytes.Equal(block, encode(o.Fields)) {
				o.hpack = forms(block)
			}
		}
	}
	o.records = append(o.records, strings.Join(frames, ", "))
	return ack, nil
}

// describe says everything of an opening, for comparing it with another.
func (o *Opening) describe() []clienthello.Field {
	fields := []clienthello.Field{
		{Name: "handshake records", Value: fmt.Sprint(o.handshake)},
		{Name: "records", Value: strings.Join(o.records, " | ")},
		{Name: "sizes of these records", Value: fmt.Sprint(o.sizes)},
		{Name: "SETTINGS", Value: strings.Join(o.settings, " ")},
		{Name: "WINDOW_UPDATE", Value: fmt.Sprint(o.Window, o.Stream[1])},
		{Name: "HEADERS", Value: o.headers},
		{Name: "HPACK", Value: o.hpack},
	}
	var names []string
	values := map[string][]string{}
	for _, f := range o.Fields {
		names = append(names, f.Name)
		values[f.Name] = append(values[f.Name], f.Value)
	}
	fields = append(fields, clienthello.Field{Name: "order of fields", Value: strings.Join(names, " ")})
	for name, v := range values {
		fields = append(fields, clienthello.Field{Name: "field " + name, Value: strings.Join(v, " | ")})
	}
	slices.SortFunc(fields[8:], func(a, b clienthello.Field) int { return strings.Compare(a.Name, b.Name) })
	return fields
}

// encode writes fields as x/net does.
func encode(fields []hpack.HeaderField) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range fields {
		if err := enc.WriteField(f); err != nil {
			panic(err) // memory does not fail
		}
	}
	return b.Bytes()
}

// forms says how each field of a header block is written: its representation, the place of what is in a table, and for each
// text H if it is Huffman's or T.
func forms(block []byte) string {
	number := func(bits int) (n int) { // which begins in this byte
		most := 1<<bits - 1
		n = int(block[0]) & most
		block = block[1:]
		if n < most {
			return n
		}
		for shift := 0; len(block) > 0; shift += 7 {
			c := block[0]
			block = block[1:]
			if n += int(c&0x7f) << shift; c < 0x80 {
				break
			}
		}
		return n
	}
	var all []string
	for len(block) > 0 {
		one, bits := "plain", 4
		switch c := block[0]; {
		case c >= 0x80:
			all = append(all, fmt.Sprintf("field %d", number(7)))
			continue
		case c >= 0x40:
			one, bits = "indexed", 6
		case c >= 0x20:
			all = append(all, fmt.Sprintf("size %d", number(5)))
			continue
		case c >= 0x10:
			one = "never"
		}
		name := number(bits)
		one += fmt.Sprintf(" %d ", name)
		texts := 1
		if name == 0 {
			texts = 2
		}
		for ; texts > 0 && len(block) > 0; texts-- {
			if block[0] >= 0x80 {
				one += "H"
			} else {
				one += "T"
			}
			n := number(7)
			block = block[min(n, len(block)):]
		}
		all = append(all, one)
	}
	return strings.Join(all, ", ")
}

// AsMost turns what Debian's browsers say of themselves into what the same version of Google's Chrome, or of Firefox, says
// on Windows, which is what most people have. The size changes with it.
func (o *Opening) AsMost() {
	for i, f := range o.Fields {
		was := f.Value
		switch f.Name {
		case "user-agent":
			f.Value = strings.Replace(f.Value, "HeadlessChrome/", "Chrome/", 1)
			f.Value = strings.Replace(f.Value, "X11; Linux x86_64", "Windows NT 10.0; Win64; x64", 1)
		case "sec-ch-ua-platform":
			f.Value = `"Windows"`
		case "sec-ch-ua":
			f.Value = withGoogleBrand(f.Value)
		}
		o.Fields[i] = f
		o.sizes[1] += int(hpack.HuffmanEncodeLength(f.Value)) - int(hpack.HuffmanEncodeLength(was))
	}
}

// Brand matches one of sec-ch-ua's: its name and major version.
var Brand = regexp.MustCompile(`^"([^"]*)";v="(\d+)"$`)

// withGoogleBrand adds the brand that Chromium does not have. The three are ordered by the major version, as Chromium's
// components/embedder_support/user_agent_utils.cc does it (ShuffleBrandList).
func withGoogleBrand(list string) string {
	var chromium, greasey string
	major := 0
	for b := range strings.SplitSeq(list, ", ") {
		if m := Brand.FindStringSubmatch(b); m != nil && m[1] == "Chromium" {
			chromium = b
			major, _ = strconv.Atoi(m[2])
		} else {
			greasey = b
		}
	}
	if chromium == "" {
		return list
	}
	places := [6][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}[major%6]
	var ordered [3]string
	for i, b := range []string{greasey, chromium, strings.Replace(chromium, "Chromium", "Google Chrome", 1)} {
		ordered[places[i]] = b
	}
	return strings.Join(ordered[:], ", ")
}

// Requests counts the HEADERS in a connection.
func (c *Conn) Requests() (n int) {
	all := bytes.TrimPrefix(bytes.Join(c.Plain, nil), []byte(http2.ClientPreface))
	framer := http2.NewFramer(nil, bytes.NewReader(all))
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return n
		}
		if f.Header().Type == http2.FrameHeaders {
			n++
		}
	}
}
