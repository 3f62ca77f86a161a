package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/owner"
)

// front is the HTTP proxy: net/http's server on the connections that the sniffer found to be HTTP.
//
// It changes requests and answers as little as a proxy may: no Via, no X-Forwarded-For, no Date or Content-Type of its
// own, because the site has no business knowing of it. For the same reason no text it writes names the product: a page
// can read its own site's error answers, and by DNS rebinding those of this port.
type front struct {
	sv      *serving
	server  *http.Server
	reverse *httputil.ReverseProxy
}

const (
	maxRequestHeader  = 64 << 10
	maxResponseHeader = 256 << 10 // what browsers take
)

type connKey struct{}

func newFront(sv *serving) *front {
	f := &front{sv: sv}
	// net/http's logs hold addresses; what matters of them is told elsewhere.
	silent := log.New(io.Discard, "", 0)
	f.server = &http.Server{
		Handler:                      f,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            sv.cfg.FirstRequest,
		IdleTimeout:                  sv.cfg.KeepAlive,
		MaxHeaderBytes:               maxRequestHeader,
		ErrorLog:                     silent,
		BaseContext:                  func(net.Listener) context.Context { return sv.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(owner.With(ctx, owner.From(c.(*conn).ctx)), connKey{}, c)
		},
		ConnState: func(nc net.Conn, state http.ConnState) {
			switch c := nc.(*conn); state {
			case http.StateHijacked:
				c.taken.Store(true)
			case http.StateClosed:
				c.end()
			}
		},
	}
	f.reverse = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      ownTransport{},
		FlushInterval:  -1, // what the site has sent, the application gets
		ErrorLog:       silent,
		BufferPool:     &buffers{},
		ModifyResponse: refuseSwitch,
		ErrorHandler:   f.failed,
	}
	return f
}

func (f *front) run()  { f.server.Serve(handedOver{f.sv}) }
func (f *front) stop() { f.server.Close() }

// handedOver is the listener through which net/http gets connections from the sniffer.
type handedOver struct{ sv *serving }

func (l handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-l.sv.handoff:
		return c, nil
	case <-l.sv.ctx.Done():
		return nil, net.ErrClosed
	}
}
func (handedOver) Close() error   { return nil }
func (handedOver) Addr() net.Addr { return &net.TCPAddr{} }

// ServeHTTP answers one request.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	c.requested()
	defer func() {
		p := recover()
		if p != nil {
			if p != http.ErrAbortHandler {
				f.sv.log.Error("bug in the proxy", keyStack, string(debug.Stack()))
			}
			// What was cut short must not look complete, as it would to HTTP/1.0 after an orderly close.
			reset(c.tcp)
		}
		if c.taken.Load() {
			c.end()
		} else if p != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	switch {
	case !f.authenticated(r):
		f.sv.unauthenticated.Add(1)
		w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
		answer(w, http.StatusProxyAuthRequired, "This proxy asks for a user and a password.")
	case r.Method == http.MethodConnect:
		f.connect(c, w, r)
	case r.URL.Host == "" || r.URL.Scheme == "":
		// A browser that was led here by a link or by DNS rebinding, not one that uses a proxy. Never forwarded.
		w.Header().Set("Connection", "close")
		answer(w, http.StatusBadRequest, fmt.Sprintf(
			"This port is a proxy, not a website. Set it in a program's settings: SOCKS5 or HTTP, at %s.", c.LocalAddr()))
	case r.URL.Scheme != "http":
		answer(w, http.StatusBadRequest, "Only http goes through the proxy this way. For everything else use CONNECT.")
	default:
		target, err := siteOf(r)
		switch {
		case err != nil:
			answer(w, http.StatusBadRequest, "The address is not one of a site.")
		case wantsUpgrade(r):
			f.upgrade(c, w, r, target)
		default:
			f.forward(c, w, r)
		}
	}
}

// siteOf is where a plain request goes.
func siteOf(r *http.Request) (flow.Target, error) {
	port := r.URL.Port()
	if port == "" {
		port = "80"
	}
	return flow.ParseTarget(net.JoinHostPort(r.URL.Hostname(), port))
}

func (f *front) authenticated(r *http.Request) bool {
	if f.sv.cfg.Auth == nil {
		return true
	}
	scheme, rest, _ := strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
	user, password, ok := strings.Cut(string(plain), ":")
	return strings.EqualFold(scheme, "Basic") && err == nil && ok && f.sv.cfg.Auth.admits(user, password)
}

// answer writes a short text of our own.
func answer(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%d %s\n\n%s\n", status, http.StatusText(status), text)
}

// explain answers with why the site could not be asked.
func explain(w http.ResponseWriter, err error) {
	code := flow.CodeOf(err)
	switch {
	case code != flow.CodeReset || errors.Is(err, syscall.ECONNRESET):
		answer(w, httpStatus(code), "The proxy could not reach the site: "+code.String()+".")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		answer(w, http.StatusBadGateway, "The site closed the connection without an answer.")
	default:
		answer(w, http.StatusBadGateway, "The site's answer could not be understood.")
	}
}

// connect serves a CONNECT: a tunnel to host:port.
func (f *front) connect(c *conn, w http.ResponseWriter, r *http.Request) {
	// If it fails, what the application sent in the hope of success must not be read as a request.
	w.Header().Set("Connection", "close")
	target, err := flow.ParseTarget(r.RequestURI)
	if err != nil {
		answer(w, http.StatusBadRequest, "CONNECT needs host:port.")
		return
	}
	if r.ContentLength != 0 {
		answer(w, http.StatusBadRequest, "CONNECT has no body.")
		return
	}
	st, early, err := f.sv.open(r.Context(), target)
	if err != nil {
		explain(w, err)
		return
	}
	ahead, err := takeOver(w)
	if err == nil {
		_, err = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	}
	if err != nil {
		abandon(st)
		panic(http.ErrAbortHandler)
	}
	f.sv.tunnel(c, st, early, ahead)
}

// takeOver takes the connection from net/http, with what it has read beyond the request.
func takeOver(w http.ResponseWriter) (ahead []byte, err error) {
	_, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	return buf.Reader.Peek(buf.Reader.Buffered())
}

// forward serves a plain request.
func (f *front) forward(c *conn, w http.ResponseWriter, r *http.Request) {
	r.Header.Del("Upgrade") // those we pass on went to upgrade
	if r.ContentLength != 0 {
		// Without it net/http would swallow the rest of the body before the site's early answer goes out.
		http.NewResponseController(w).EnableFullDuplex()
		u := &upload{ReadCloser: r.Body}
		r.Body = u
		c.upload = u
		defer func() {
			u.finish()
			c.upload = nil
		}()
	}
	f.reverse.ServeHTTP(verbatim{w, informed(r)}, r)
}

// failed answers for a request that found no answer.
func (f *front) failed(w http.ResponseWriter, r *http.Request, err error) {
	var site, own error
	if u := r.Context().Value(connKey{}).(*conn).upload; u != nil {
		site, own = u.failure()
	}
	switch {
	case site != nil: // first of all, for cutting the body off has ended r's context as well
		explain(w, site)
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the application has gone, or we are stopping
	case own != nil:
		w.Header().Set("Connection", "close")
		answer(w, http.StatusBadRequest, "The request's body could not be read.")
	default:
		explain(w, err)
	}
}

var errSwitch = errors.New("the site switched protocols unasked")

// refuseSwitch refuses a 101 to a request that did not go through upgrade.
func refuseSwitch(r *http.Response) error {
	if r.StatusCode == http.StatusSwitchingProtocols {
		return errSwitch
	}
	return nil
}

// rewrite takes back what ReverseProxy does for servers behind it.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[name]; ok && !hasToken(pr.In.Header["Connection"], name) {
			pr.Out.Header[name] = v
		}
	}
}

// informed reports whether r's sender gets 1xx answers: not if it speaks HTTP/1.0, which has none, and not if it expects
// 100, which net/http sends itself when the body is first read, beside us.
func informed(r *http.Request) bool { return r.ProtoAtLeast(1, 1) && r.Header.Get("Expect") == "" }

// verbatim keeps net/http from adding to an answer what the site did not send.
type verbatim struct {
	http.ResponseWriter
	informed bool
}

func (v verbatim) WriteHeader(status int) {
	if status < 200 && (!v.informed || status == http.StatusContinue) {
		return
	}
	h := v.Header()
	for _, name := range []string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil
		}
	}
	v.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find the rest.
func (v verbatim) Unwrap() http.ResponseWriter { return v.ResponseWriter }

// buffers are ReverseProxy's copy buffers.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
