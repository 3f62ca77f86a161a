package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// wantsUpgrade reports whether r asks to change protocols in a way that can be passed on, as WebSocket does. h2c
// cannot: its settings are for this hop only; such a request goes on as the plain one it also is.
func wantsUpgrade(r *http.Request) bool {
	to := r.Header.Get("Upgrade")
	return to != "" && !strings.EqualFold(to, "h2c") && r.ContentLength == 0 && r.ProtoAtLeast(1, 1) &&
		hasToken(r.Header["Connection"], "Upgrade")
}

// upgrade passes on a request to change protocols, on a stream of its own: if the site agrees it becomes a tunnel.
func (f *front) upgrade(c *conn, w http.ResponseWriter, r *http.Request, target flow.Target) {
	st, _, err := f.sv.open(r.Context(), target)
	if err != nil {
		explain(w, err)
		return
	}
	defer st.Close()
	stop := context.AfterFunc(r.Context(), func() { st.Reset(flow.CodeReset) })
	defer stop()

	resp, from, err := ask(st, r)
	switch {
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler)
	case err != nil:
		explain(w, err)
		return
	case resp.StatusCode != http.StatusSwitchingProtocols:
		relay(w, resp)
		return
	}

	to := resp.Header["Upgrade"]
	removeHopByHop(resp.Header)
	resp.Header["Upgrade"], resp.Header["Connection"] = to, []string{"Upgrade"}
	var first bytes.Buffer
	first.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	resp.Header.Write(&first)
	first.WriteString("\r\n")
	if n := from.Buffered(); n > 0 { // what the site said right after
		said, _ := from.Peek(n)
		first.Write(said)
	}
	ahead, err := takeOver(w)
	if err == nil && !stop() {
		err = context.Canceled
	}
	if err == nil {
		_, err = c.Write(first.Bytes())
	}
	if err != nil {
		st.Reset(flow.CodeReset)
		panic(http.ErrAbortHandler)
	}
	f.sv.tunnel(c, st, false, ahead)
}

// ask sends r on st and reads the answer's header. What follows it is in the reader.
func ask(st flow.Stream, r *http.Request) (*http.Response, *bufio.Reader, error) {
	out := r.Clone(r.Context())
	to := out.Header["Upgrade"]
	removeHopByHop(out.Header)
	out.Header["Upgrade"], out.Header["Connection"] = to, []string{"Upgrade"}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = []string{""} // or net/http adds its own
	}
	out.Body, out.Close = nil, false
	if err := out.Write(st); err != nil {
		return nil, nil, err
	}
	header := &io.LimitedReader{R: st, N: maxResponseHeader}
	from := bufio.NewReader(header)
	for {
		resp, err := http.ReadResponse(from, out)
		switch {
		case err != nil && header.N <= 0:
			return nil, nil, errors.New("the answer's header is too long")
		case err != nil:
			return nil, nil, err
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			header.N = math.MaxInt64
			return resp, from, nil
		}
	}
}

// relay gives the application an ordinary answer, as it comes in.
func relay(w http.ResponseWriter, resp *http.Response) {
	defer resp.Body.Close()
	removeHopByHop(resp.Header)
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	verbatim{w, true}.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(flushing{w}, resp.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// flushing hands each write on at once.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

// removeHopByHop removes what concerns only the connection it came on (RFC 9110 §7.6.1).
func removeHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{
		"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization",
	} {
		h.Del(name)
	}
}

// hasToken reports whether a header's comma-separated values hold token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}
