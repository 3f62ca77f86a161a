package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/miekg/dns"

	"github.com/godwit-vpn/godwit/lab/peer"
)

// The page that Page loads, and who serves it. It has 100 objects, which is what the median page of the web has, of sizes
// such as the web's, on five hosts with an address and a certificate each:
//
//	www: page ─┬─ www: 8 style sheets ─ cdn: 5 fonts, 8 images       known when the style sheet is there
//	           ├─ cdn: 18 scripts, www: 4 ─ tags: 6 more, api: 5 calls   known when the script has run
//	           └─ img: 35 images, www: 10
//
// Each load is of a name that nobody was asked for before, LOAD.www.page.example, so that no cache knows it.
const pageZone = "page.example"

// pageHosts are the page's.
var pageHosts = []string{"www", "cdn", "img", "tags", "api"}

// SiteHosts is how many they are.
const SiteHosts = 5

// object is one of the page's parts: its text, filled up to its size, and what ends that.
type object struct {
	kind, text, end string
	size            int
}

// ends close what the texts open.
var ends = map[string]string{"text/html": "-->", "text/css": "*/", "text/javascript": "*/", "application/json": `"`}

// newSite lays the page out for one load: its objects, by host and path.
func newSite(load string) map[string]object {
	s := make(map[string]object)
	r := rand.New(rand.NewPCG(1, 100)) // the same page each time
	// One in twenty is six times as large as the median or more, as on the web.
	size := func(median, most int) int { return min(most, int(float64(median)*math.Exp(1.1*r.NormFloat64()))) }
	put := func(host, path, kind string, size int, text string) (url string) {
		s[host+path] = object{kind: kind, text: text, end: ends[kind], size: max(size, len(text)+len(ends[kind]))}
		return "https://" + load + "." + host + "." + pageZone + path
	}
	image := func(host string, n int) (url string) {
		return put(host, fmt.Sprintf("/image/%d.png", n), "image/png", size(14_000, 300_000), pixel)
	}
	page := "<!DOCTYPE html><title>page</title><link rel=icon href=data:,>"
	for i := range 8 {
		css := ""
		if i < 5 {
			font := put("cdn", fmt.Sprintf("/font/%d.woff2", i), "font/woff2", size(24_000, 80_000), "wOF2")
			css = fmt.Sprintf("@font-face{font-family:f%d;src:url(%s)}#t%d{font-family:f%d}", i, font, i, i)
		}
		css += fmt.Sprintf("#b%d{width:9px;height:9px;background:url(%s)}/*", i, image("cdn", i))
		page += "<link rel=stylesheet href=" + put("www", fmt.Sprintf("/style/%d.css", i), "text/css", size(9_000, 80_000), css) + ">"
	}
	for i := range 22 {
		host, text := "cdn", "/*"
		if i >= 18 {
			host = "www"
		}
		switch i % 4 { // what these ask for is known when they have run
		case 1: // what style sheets ask for is when the page is laid out, which a browser that nobody looks at puts off
			text = "document.body.offsetHeight;/*"
		case 0:
			tag := put("tags", fmt.Sprintf("/tag/%d.js", i), "text/javascript", size(22_000, 200_000), "/*")
			text = "var e=document.createElement('script');e.src='" + tag + "';document.head.append(e);/*"
		case 2:
			text = "fetch('" + put("api", fmt.Sprintf("/call/%d", i), "application/json", size(1_500, 20_000), `"`) + "');/*"
		}
		page += "<script defer src=" + put(host, fmt.Sprintf("/script/%d.js", i), "text/javascript", size(22_000, 200_000), text) + "></script>"
	}
	for i := range 8 {
		page += fmt.Sprintf("<p id=t%d>text</p><p id=b%d></p>", i, i)
	}
	for i := range 45 {
		host := "img"
		if i >= 35 {
			host = "www"
		}
		page += "<img src=" + image(host, 100+i) + ">"
	}
	put("www", "/", "text/html", 30_000, page+"<!--")
	return s
}

// pixel is a picture; what follows it is not looked at.
const pixel = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89" +
	"\x00\x00\x00\rIDATx\x9cc\xf8\x0f\x00\x00\x01\x01\x00\x05\x18\xd8N\x00\x00\x00\x00IEND\xaeB`\x82"

// SiteAddr is where one of the page's hosts is, from 0 to SiteHosts, if the target is at an address.
func SiteAddr(target netip.Addr, host int) netip.Addr {
	b := target.As4()
	b[3] += byte(10 + host)
	return netip.AddrFrom4(b)
}

// hostOf splits LOAD.HOST.page.example; host is -1 for other names.
func hostOf(name string) (load string, host int) {
	load, rest, _ := strings.Cut(strings.ToLower(strings.TrimSuffix(name, ".")), ".")
	which, ok := strings.CutSuffix(rest, "."+pageZone)
	if !ok {
		return load, -1
	}
	return load, slices.Index(pageHosts, which)
}

// serveSite serves the page over HTTP/2, and the names of its hosts, until ctx ends. Where the page's addresses are not this
// machine's there is none.
func serveSite(ctx context.Context, target netip.Addr) error {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for i := range pageHosts {
		l, err := net.Listen("tcp", netip.AddrPortFrom(SiteAddr(target, i), PortHTTPS).String())
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			<-ctx.Done()
			return nil
		}
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	web := &http.Server{
		Handler: http.HandlerFunc(serveObject),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, key, err := peer.SelfSigned(h.ServerName) // no two hosts have one, or browsers would take them for one
			if err != nil {
				return nil, err
			}
			pair, err := tls.X509KeyPair(cert, key)
			return &pair, err
		}},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	at := netip.AddrPortFrom(target, PortDNS).String()
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { answerName(w, q, target) })
	resolvers := []*dns.Server{{Addr: at, Net: "udp", Handler: answer}, {Addr: at, Net: "tcp", Handler: answer}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(resolvers)+len(listeners)) // one of each
	for _, r := range resolvers {
		wg.Go(func() {
			errs <- r.ListenAndServe()
			cancel()
		})
	}
	for _, l := range listeners {
		wg.Go(func() {
			errs <- web.ServeTLS(l, "", "")
			cancel()
		})
	}
	<-ctx.Done()
	var err error
	select {
	case err = <-errs: // it ended by itself
	default:
	}
	web.Close()
	for _, r := range resolvers {
		r.Shutdown()
	}
	wg.Wait()
	return err
}

// answerName answers for the page's hosts; other names there are none.
func answerName(w dns.ResponseWriter, q *dns.Msg, target netip.Addr) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	for _, question := range q.Question {
		_, host := hostOf(question.Name)
		switch {
		case host < 0:
			m.Rcode = dns.RcodeNameError
		case question.Qtype == dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A: SiteAddr(target, host).AsSlice()})
		}
	}
	w.WriteMsg(m)
}

func serveObject(w http.ResponseWriter, r *http.Request) {
	load, host := hostOf(r.Host)
	if host < 0 {
		http.NotFound(w, r)
		return
	}
	o, ok := newSite(load)[pageHosts[host]+r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", o.kind)
	h.Set("Content-Length", strconv.Itoa(o.size))
	h.Set("Access-Control-Allow-Origin", "*") // fonts and calls come from other hosts
	h.Set("Timing-Allow-Origin", "*")         // and their sizes are to be counted
	io.WriteString(w, o.text)
	io.WriteString(w, strings.Repeat("x", o.size-len(o.text)-len(o.end)))
	io.WriteString(w, o.end)
}
