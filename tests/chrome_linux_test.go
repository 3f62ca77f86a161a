package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

var update = flag.Bool("update", false, "write what is seen into the browsers' profiles and docs/fidelity.md instead of comparing with them")

const (
	profileFile = "../internal/transports/https/chrome/chrome.json"
	howToUpdate = "update internal/transports/https/chrome with: go test ./tests -run '^TestChrome$' -count 1 -update"

	recorderAddr = "127.0.0.1:443"
	recorderName = "site.test"

	enoughHellos  = 8
	updatedHellos = 40 // to have met every size of encrypted_client_hello
)

// recorderCookies are what the recorder sets: one as long as a gateway's, and one more to see how two are sent.
var recorderCookies = []string{"id=" + strings.Repeat("abcdEFGH0123-_", 34), "seen=1"}

// A visitor is what was seen of one kind of visitor.
type visitor struct {
	name         string
	hellos       []*clienthello.Hello
	first, again *recorded // the connection of a first visit, and of one with the cookies of the first
}

// TestChrome compares what our client sends with what Debian's Chromium sends, on loopback: a firewall that knows
// today's Chrome must find nothing in ours that Chrome does not do. When it fails, Chrome has changed: see docs/chrome.md.
func TestChrome(t *testing.T) {
	needNamespaces(t)
	need(t, "chromium")
	h := newHost(t, "browser")
	dir := t.TempDir()
	cert := (&site{ca: filepath.Join(dir, "ca.pem")}).certificate(t)
	hellos := enoughHellos
	if *update {
		hellos = updatedHellos
	}
	browser := visitRecorder(t, h, cert, "Chromium", hellos, func(i int) error {
		data := filepath.Join(dir, "chromium"+strconv.Itoa(max(1, i))) // the second visit finds the first one's cookies
		return runChromium(t.Context(), h, data, recorderName)
	})
	version := strings.TrimSpace(h.run(t, "", "chromium", "--version"))
	t.Logf("%s, %d hellos, JA4 %s", version, len(browser.hellos), browser.hellos[0].JA4())
	if *update {
		writeProfile(t, profileFile, chrome.Profile{Family: chrome.FamilyChrome, Browser: version + ", as Google Chrome on Windows",
			HTTP2: chrome.HTTP2{HPACK: chrome.HPACKShortest}}, browser, nil)
		return
	}
	ours := visitRecorder(t, h, cert, "ours", hellos, func(i int) error {
		cookie := ""
		if i == 1 {
			cookie = strings.Join(recorderCookies, "; ")
		}
		return visitWith(h, chrome.Client, recorderName, cookie)
	})
	stale := visitRecorder(t, h, cert, "a stale Chrome", 2, func(int) error { return visitWith(h, staleClient, recorderName, "") })
	profile := profileOf(t, profileFile)
	t.Logf("the profile is of %s, measured %s", profile.Browser, profile.Measured)
	differences := compareHellos(browser, ours, profile)
	differences = append(differences, compareRequests(t, "first visit", browser.first, ours.first)...)
	differences = append(differences, compareRequests(t, "second visit", browser.again, ours.again)...)
	if differences != nil {
		t.Errorf("our client does not look like %s:\n%s\n%s", version, strings.Join(differences, "\n"), howToUpdate)
	}
	if compareHellos(browser, stale, profile) == nil {
		t.Errorf("a Chrome of years ago looks like %s, so this test sees nothing", version)
	}
}

// profileOf is a profile that is built in.
func profileOf(t *testing.T, file string) *chrome.Profile {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := chrome.ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	return profile
}

// staleClient is what ours would be without a profile of our own: the engine's newest.
func staleClient(c net.Conn, cfg *utls.Config) (*utls.UConn, error) {
	return utls.UClient(c, cfg, utls.HelloChrome_133), nil
}

// visitRecorder has a visitor visit recorders until that many hellos are seen: the second time as someone who returns,
// otherwise as someone new.
func visitRecorder(t *testing.T, h *host, cert tls.Certificate, name string, hellos int,
	visit func(i int) error) *visitor {
	t.Helper()
	v := &visitor{name: name}
	for i := 0; len(v.hellos) < hellos || i < 2; i++ {
		if i > hellos {
			t.Fatalf("%s came %d times and sent %d hellos", name, i, len(v.hellos))
		}
		var cookies []string
		for _, c := range recorderCookies {
			cookies = append(cookies, c+"; Max-Age=86400; Path=/; Secure; HttpOnly")
		}
		r := newRecorder(t, h.listen(t, recorderAddr), cert, cookies...)
		if err := visit(i); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conns := r.finish()
		var ends []string
		for _, c := range conns {
			if c.hello == nil {
				continue
			}
			hello, err := clienthello.ParseHello(c.hello)
			if err != nil {
				t.Fatalf("%s: %v: %x", name, err, c.hello)
			}
			v.hellos = append(v.hellos, hello)
			use := fmt.Sprintf("%d requests", c.requests())
			ends = append(ends, fmt.Sprintf("%s, then %s after %d records", use, c.end, len(c.records)))
			switch {
			case c.requests() == 0:
			case i == 0 && v.first == nil:
				v.first = c
			case i == 1 && v.again == nil:
				v.again = c
			}
		}
		if i < 2 { // what they are is for people: who imitates a browser need not imitate its second connection
			t.Logf("%s, visit %d: %d connections: %s", name, i+1, len(ends), strings.Join(ends, "; "))
		}
	}
	if v.first == nil || v.again == nil {
		t.Fatalf("%s sent no request", name)
	}
	return v
}

func runChromium(ctx context.Context, h *host, data, site string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	// Of these only --ignore-certificate-errors and --host-resolver-rules concern the connection; neither changes it.
	dom, complaint, err := output(ctx, h.command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--ignore-certificate-errors", "--host-resolver-rules=MAP "+recorderName+" 127.0.0.1",
		"--user-data-dir="+data, "--dump-dom", "https://"+site+"/"))
	if err == nil && !strings.Contains(dom, "recorded") {
		err = errors.New("the page did not load")
	}
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, dom, complaint)
	}
	return nil
}

// visitWith does what a client of ours does first, that looks like Chrome.
func visitWith(h *host, client func(net.Conn, *utls.Config) (*utls.UConn, error), name, cookie string) error {
	return visitAs(h, chrome.BuiltIn(chrome.FamilyChrome), client, name, cookie)
}

func visitAs(h *host, b *chrome.Browser, client func(net.Conn, *utls.Config) (*utls.UConn, error), name, cookie string) error {
	var c net.Conn
	if err := h.do(func() (err error) {
		c, err = net.Dial("tcp", recorderAddr)
		return err
	}); err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	u, err := client(c, &utls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	if err := u.Handshake(); err != nil {
		return err
	}
	for _, record := range b.Opening(name, cookie) {
		if _, err := u.Write(record); err != nil {
			return err
		}
	}
	framer := http2.NewFramer(u, u)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if err := framer.WriteSettingsAck(); err != nil {
				return err
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return nil
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() { // sent away
				return nil
			}
		}
	}
}

// compareHellos says where the hellos of one differ from those of the other.
func compareHellos(browser, ours *visitor, profile *chrome.Profile) (differences []string) {
	differ := func(format string, args ...any) {
		if d := "  ClientHello, " + fmt.Sprintf(format, args...); !slices.Contains(differences, d) {
			differences = append(differences, d)
		}
	}
	size := func(hello *clienthello.Hello) int { // without what is drawn
		if ech := hello.ECH(); ech != nil {
			return hello.Length - len(ech.Payload)
		}
		return hello.Length
	}
	first := browser.hellos[0]
	want := first.Fields()
	for _, v := range []*visitor{browser, ours} {
		for _, hello := range v.hellos {
			if size(hello) != size(first) {
				differ("size without encrypted_client_hello's payload: %s sends %d, %s %d", browser.name, size(first), v.name, size(hello))
			}
			if again := fieldDifferences(want, hello.Fields(), browser.name, v.name); again != nil {
				for _, d := range again {
					differ("%s", d)
				}
				break
			}
		}
		for _, hello := range v.hellos {
			ech, grease := hello.ECH(), profile.TLS.ECHGREASE
			if ech == nil {
				continue
			}
			payloads := grease.Payloads
			if hello.PSK() != nil && len(grease.ReturnPayloads) > 0 {
				payloads = grease.ReturnPayloads
			}
			if !slices.Contains(payloads, len(ech.Payload)) || !slices.Contains(grease.AEADs, ech.AEAD) {
				differ("encrypted_client_hello: the profile has AEADs %v and payloads of %v, %s sends %d and %d", grease.AEADs,
					payloads, v.name, ech.AEAD, len(ech.Payload))
			}
		}
	}
	if a, b := orders(browser), orders(ours); len(a) > 1 != (len(b) > 1) || len(a) == 1 && !maps.Equal(a, b) {
		differ("order of extensions: of %s %d, of %s %d, or not the same one", browser.name, len(a), ours.name, len(b))
	}
	return differences
}

// orders are the different orders of extensions in a visitor's hellos.
func orders(v *visitor) map[string]bool {
	found := map[string]bool{}
	for _, hello := range v.hellos {
		found[clienthello.Codes(hello.Order())] = true
	}
	return found
}

// fieldDifferences says where two descriptions differ.
func fieldDifferences(want, got []clienthello.Field, who, other string) (differences []string) {
	value := func(fields []clienthello.Field, name string) string {
		for _, f := range fields {
			if f.Name == name {
				return strconv.Quote(f.Value)
			}
		}
		return "none"
	}
	var names []string
	for _, f := range slices.Concat(want, got) {
		if !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	for _, name := range names {
		if a, b := value(want, name), value(got, name); a != b {
			differences = append(differences, fmt.Sprintf("%s:\n    %s sends %s\n    %s sends %s", name, who, a, other, b))
		}
	}
	return differences
}

// compareRequests says where what follows one's hello differs from what follows the other's.
func compareRequests(t *testing.T, visit string, browser, ours *recorded) (differences []string) {
	t.Helper()
	want, err := readOpening(browser)
	if err != nil {
		t.Fatalf("%s: the browser: %v", visit, err)
	}
	want.asMost()
	got, err := readOpening(ours)
	if err != nil {
		t.Fatalf("%s: ours: %v", visit, err)
	}
	for _, d := range fieldDifferences(want.describe(), got.describe(), "the browser", "ours") {
		differences = append(differences, "  "+visit+", "+d)
	}
	return differences
}

// An opening is what a client sends after its hello, up to SETTINGS ACK.
type opening struct {
	handshake []record // change_cipher_spec and Finished
	records   []string // the frames in each record after these
	sizes     []int    // and the record's size

	settings []string
	window   uint32
	stream   [2]uint32 // of the request: its number and its WINDOW_UPDATE
	headers  string    // what the HEADERS frame has besides the fields
	fields   []hpack.HeaderField
	hpack    string // "x/net's", or what else
	priority http2.PriorityParam
	values   []http2.Setting
}

// readOpening reads a connection's opening.
func readOpening(c *recorded) (*opening, error) {
	o := &opening{}
	var up []record
	for _, r := range c.records {
		if r.up {
			up = append(up, r)
		}
	}
	if len(up) < 3+len(c.plain) {
		return nil, fmt.Errorf("%d records for %d writes", len(up), len(c.plain))
	}
	o.handshake, up = up[1:3], up[3:]
	acked := false
	for i, plain := range c.plain {
		ack, err := o.read(i, plain)
		if err != nil {
			return nil, err
		}
		o.sizes = append(o.sizes, up[i].size)
		if acked = acked || ack; acked && len(o.fields) > 0 {
			break
		}
	}
	if len(o.records) < 3 || o.fields == nil {
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
func (o *opening) read(i int, plain []byte) (ack bool, err error) {
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
				o.values = append(o.values, s)
				o.settings = append(o.settings, fmt.Sprintf("%d=%d", s.ID, s.Val))
				return nil
			})
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				o.window = f.Increment
			} else {
				o.stream[1] = f.Increment
			}
		case *http2.HeadersFrame:
			block := f.HeaderBlockFragment()
			o.priority, o.stream[0] = f.Priority, f.StreamID
			o.headers = fmt.Sprintf("stream %d, flags %02x, depends on %d, exclusive %v, weight %d", f.StreamID, f.Flags,
				f.Priority.StreamDep, f.Priority.Exclusive, int(f.Priority.Weight)+1)
			if o.fields, err = hpack.NewDecoder(4096, nil).DecodeFull(block); err != nil {
				return false, err
			}
			if o.hpack = "x/net's"; !bytes.Equal(block, encode(o.fields)) {
				o.hpack = forms(block)
			}
		}
	}
	o.records = append(o.records, strings.Join(frames, ", "))
	return ack, nil
}

// describe says everything of an opening, for comparing it with another.
func (o *opening) describe() []clienthello.Field {
	fields := []clienthello.Field{
		{Name: "handshake records", Value: fmt.Sprint(o.handshake)},
		{Name: "records", Value: strings.Join(o.records, " | ")},
		{Name: "sizes of these records", Value: fmt.Sprint(o.sizes)},
		{Name: "SETTINGS", Value: strings.Join(o.settings, " ")},
		{Name: "WINDOW_UPDATE", Value: fmt.Sprint(o.window, o.stream[1])},
		{Name: "HEADERS", Value: o.headers},
		{Name: "HPACK", Value: o.hpack},
	}
	var names []string
	values := map[string][]string{}
	for _, f := range o.fields {
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

// asMost turns what Debian's browsers say of themselves into what the same version of Google's Chrome, or of Firefox, says
// on Windows, which is what most people have. The size changes with it.
func (o *opening) asMost() {
	for i, f := range o.fields {
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
		o.fields[i] = f
		o.sizes[1] += int(hpack.HuffmanEncodeLength(f.Value)) - int(hpack.HuffmanEncodeLength(was))
	}
}

var brand = regexp.MustCompile(`^"([^"]*)";v="(\d+)"$`)

// withGoogleBrand adds the brand that Chromium does not have. The three are ordered by the major version, as Chromium's
// components/embedder_support/user_agent_utils.cc does it (ShuffleBrandList).
func withGoogleBrand(list string) string {
	var chromium, greasey string
	major := 0
	for b := range strings.SplitSeq(list, ", ") {
		if m := brand.FindStringSubmatch(b); m != nil && m[1] == "Chromium" {
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

// requests counts the HEADERS in a connection.
func (c *recorded) requests() (n int) {
	all := bytes.TrimPrefix(bytes.Join(c.plain, nil), []byte(http2.ClientPreface))
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

// writeProfile writes the profile that imitates what was measured, when it can be imitated. p has what is not measured, and
// returning is the browser as it comes back, where that changes more than pre_shared_key.
func writeProfile(t *testing.T, file string, p chrome.Profile, browser, returning *visitor) {
	t.Helper()
	again, err := readOpening(browser.again)
	if err != nil {
		t.Fatal(err)
	}
	again.asMost()
	hello := browser.hellos[0]
	order := hello.Order()
	p.Measured = time.Now().UTC().Format(time.DateOnly)
	p.TLS = chrome.TLS{
		Ciphers:             codes(hello.Ciphers),
		Groups:              codes(hello.List(clienthello.SupportedGroups)),
		Versions:            codes(hello.List(clienthello.SupportedVersions)),
		SignatureAlgorithms: codes(hello.List(clienthello.SignatureAlgorithms)),
		ALPN:                hello.Protocols(clienthello.ALPN), ApplicationSettings: hello.Protocols(clienthello.ALPS),
		CertificateCompression: codes(hello.List(clienthello.CompressCertificate)),
		Shuffled:               len(orders(browser)) > 1,
		GREASEEnds:             order[0] == clienthello.GREASE && order[len(order)-1] == clienthello.GREASE,
		OneX25519:              slices.Contains(hello.Fields(), clienthello.Field{Name: "the hybrid share repeats the X25519 share", Value: "true"}),
	}
	p.HTTP2 = chrome.HTTP2{WindowUpdate: again.window, Stream: again.stream[0], StreamWindow: again.stream[1], HPACK: p.HTTP2.HPACK,
		Priority: chrome.Priority{
			DependsOn: again.priority.StreamDep, Exclusive: again.priority.Exclusive, Weight: int(again.priority.Weight) + 1,
		}}
	for _, s := range hello.KeyShares() {
		p.TLS.KeyShares = append(p.TLS.KeyShares, clienthello.Plain(s.Group))
	}
	for _, hello := range browser.hellos {
		ech := hello.ECH()
		if ech == nil {
			t.Fatal("a hello has no encrypted_client_hello: chrome.TLS knows none without")
		}
		p.TLS.ECHGREASE.KDF = ech.KDF
		if !slices.Contains(p.TLS.ECHGREASE.AEADs, ech.AEAD) {
			p.TLS.ECHGREASE.AEADs = append(p.TLS.ECHGREASE.AEADs, ech.AEAD)
		}
		if size := len(ech.Payload); !slices.Contains(p.TLS.ECHGREASE.Payloads, size) {
			p.TLS.ECHGREASE.Payloads = append(p.TLS.ECHGREASE.Payloads, size)
		}
	}
	slices.Sort(p.TLS.ECHGREASE.AEADs)
	slices.Sort(p.TLS.ECHGREASE.Payloads)
	if returning != nil {
		for _, hello := range returning.hellos {
			if size := len(hello.ECH().Payload); !slices.Contains(p.TLS.ECHGREASE.ReturnPayloads, size) {
				p.TLS.ECHGREASE.ReturnPayloads = append(p.TLS.ECHGREASE.ReturnPayloads, size)
			}
		}
		slices.Sort(p.TLS.ECHGREASE.ReturnPayloads)
		for _, number := range order {
			if _, sent := returning.hellos[0].Extension(number); !sent && number != clienthello.GREASE {
				p.TLS.NotReturning = append(p.TLS.NotReturning, number)
			}
		}
	}
	for _, e := range hello.Extensions {
		if clienthello.IsGREASE(e.Type) {
			continue
		}
		ext := chrome.Extension{Type: chrome.Code(e.Type), Name: clienthello.NameOf(e.Type)}
		if !chrome.Makes(ext.Type) {
			ext.Body = e.Body
		}
		p.TLS.Extensions = append(p.TLS.Extensions, ext)
	}
	if p.TLS.Shuffled {
		slices.SortFunc(p.TLS.Extensions, func(a, b chrome.Extension) int { return int(a.Type) - int(b.Type) })
	}
	for _, s := range again.values {
		p.HTTP2.Settings = append(p.HTTP2.Settings, chrome.Setting{ID: uint16(s.ID), Value: s.Val})
	}
	for i, f := range again.fields {
		if f.Name == ":authority" || f.Name == "cookie" {
			f.Value = ""
		}
		if i == 0 || f.Name != again.fields[i-1].Name {
			p.HTTP2.Headers = append(p.HTTP2.Headers, strings.TrimSuffix(f.Name+": "+f.Value, " "))
		}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(p); err != nil {
		t.Fatal(err)
	}
	if _, err := chrome.ParseProfile(text.Bytes()); err != nil {
		t.Fatalf("what the browser sends now needs code, not only data: %v\n%s", err, &text)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("wrote %s: look at what changed, then run the test without -update", file)
}

// codes writes every GREASE value as the profile's one.
func codes(values []uint16) chrome.Codes {
	var all chrome.Codes
	for _, v := range values {
		all = append(all, clienthello.Plain(v))
	}
	return all
}
