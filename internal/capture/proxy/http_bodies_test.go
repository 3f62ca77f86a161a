package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStreams checks that nothing waits for a buffer to fill, either way, and that both ways go at once.
func TestStreams(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Length", "6")
		b := make([]byte, 2)
		for range 3 {
			if _, err := io.ReadFull(r.Body, b); err != nil {
				return
			}
			w.Write(b)
			w.(http.Flusher).Flush()
		}
	})
	c := r.dial(t)
	fmt.Fprintf(c, "POST %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n", name)
	br := bufio.NewReader(c)
	mustWrite(t, c, []byte("aa"))
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, resp.Body, []byte("aa"))
	for _, s := range []string{"bb", "cc"} {
		mustWrite(t, c, []byte(s))
		mustRead(t, resp.Body, []byte(s))
	}
}

// TestAnswerBeforeBody: a site that refuses an upload is heard at once, though the application has stopped sending.
func TestAnswerBeforeBody(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	at := raw(t, func(c *net.TCPConn, _ string, _ *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
	})
	c := r.dial(t)
	fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nstart", at)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(got) != "no" || err != nil {
		t.Errorf("%d, %q, %v", resp.StatusCode, got, err)
	}
}

// TestSiteDiesDuringBody: the application waits with the rest of its body, the site goes, the application must hear it.
func TestSiteDiesDuringBody(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	for how, want := range map[string]string{"reset": "connection reset", "closed": "closed the connection"} {
		at := raw(t, func(c *net.TCPConn, _ string, body *bufio.Reader) {
			io.ReadFull(body, make([]byte, 5))
			if how == "reset" {
				reset(c)
			} else {
				c.Close()
			}
		})
		c := r.dial(t)
		fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nstart", at)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if got, _ := io.ReadAll(resp.Body); resp.StatusCode != 502 || !strings.Contains(string(got), want) {
			t.Errorf("%s: %d, %s", how, resp.StatusCode, got)
		}
	}
}

// TestOtherSiteClosesDuringBody: what happens to a kept connection is nothing to the request on another.
func TestOtherSiteClosesDuringBody(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	closeIt, closed := make(chan struct{}), make(chan struct{})
	other := raw(t, func(c *net.TCPConn, _ string, _ *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		<-closeIt
		c.Close()
		close(closed)
	})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	c := r.dial(t)
	br := bufio.NewReader(c)
	fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxx", other)
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc", name)
	close(closeIt)
	<-closed
	time.Sleep(bodyGrace + 100*time.Millisecond)
	io.WriteString(c, "def")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(resp.Body); string(got) != "6 <nil>" {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}

func TestBadBody(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	_, name := site(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	c := r.dial(t)
	fmt.Fprintf(c, "POST %s/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n", name)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 400 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestCutAnswerIsNotComplete: an answer that ends too early must not look whole, not even to HTTP/1.0.
func TestCutAnswerIsNotComplete(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(), Config{})
	for _, header := range []string{"", "Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"} {
		at := raw(t, func(c *net.TCPConn, _ string, _ *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n")
			io.WriteString(c, "5\r\nhello\r\n")
			time.Sleep(20 * time.Millisecond) // the reset must not overtake it
			reset(c)
		})
		c := r.dial(t)
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.0\r\n\r\n", at)
		if got, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(string(got), "200 OK") {
			t.Errorf("%q: %v after %q; want a reset", header, err, got)
		}
	}
}
