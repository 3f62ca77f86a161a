package traffic

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFetch(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(Website("allowed.example"))
	defer s.Close()
	r := Fetch{URL: s.URL + "/file/3000000?seed=7", Bytes: 3000000, Seed: 7}.Do(t.Context())
	if !r.OK() || !r.Right || r.Bytes != 3000000 || r.FirstByte == 0 || r.Took < r.FirstByte {
		t.Errorf("%+v", r)
	}
	var sum int64
	for _, n := range r.Series {
		sum += n
	}
	if sum != r.Bytes {
		t.Errorf("the series has %d bytes of %d", sum, r.Bytes)
	}
	if r := (Fetch{URL: s.URL + "/file/3000000?seed=8", Bytes: 3000000, Seed: 7}).Do(t.Context()); r.OK() || r.Right || !strings.Contains(r.Err, "wrong bytes") {
		t.Errorf("another file: %+v", r)
	}
	if r := (Fetch{URL: s.URL + "/"}).Do(t.Context()); !r.OK() || r.Bytes < 10000 {
		t.Errorf("the page: %+v", r)
	}
	if r := (Fetch{URL: s.URL + "/nothing"}).Do(t.Context()); r.OK() {
		t.Errorf("a page that is not there: %+v", r)
	}
}

func TestStalls(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "2000")
		fmt.Fprint(w, strings.Repeat("x", 1000))
		http.NewResponseController(w).Flush()
		select {
		case <-time.After(300 * time.Millisecond):
		case <-hold:
		}
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/silent" {
			<-hold
		}
		io.WriteString(w, strings.Repeat("x", 1000))
	}))
	defer s.Close()
	defer close(hold)
	if r := (Fetch{URL: s.URL + "/slow"}).Do(t.Context()); !r.OK() || r.Stall < 290*time.Millisecond {
		t.Errorf("slow: %+v", r)
	}
	if r := (Fetch{URL: s.URL + "/broken"}).Do(t.Context()); r.OK() || r.Bytes != 1000 {
		t.Errorf("broken: %+v", r)
	}
	if r := (Fetch{URL: s.URL + "/silent", Silence: time.Second}).Do(t.Context()); r.OK() || !strings.Contains(r.Err, "no byte for 1s") {
		t.Errorf("silent: %+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := (Fetch{URL: s.URL + "/silent"}).Do(ctx); r.OK() || r.Took > 10*time.Second {
		t.Errorf("cancelled: %+v", r)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if r := (Fetch{URL: "http://" + l.Addr().String() + "/"}).Do(t.Context()); r.OK() {
		t.Errorf("nobody there: %+v", r)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	cert := s.TLS.Certificates[0]
	s.Close()
	var ls [2]net.Listener
	for i := range ls {
		var err error
		if ls[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Serve(ctx, Website("banned.example"), Website("banned.example"), &tls.Config{Certificates: []tls.Certificate{cert}}, ls[0], ls[1], udp)
	}()
	for i, scheme := range []string{"http", "https"} {
		if r := (Fetch{URL: scheme + "://" + ls[i].Addr().String() + "/file/20000?rate=5000", Bytes: 20000}).Do(t.Context()); !r.Right || r.Stall < time.Second {
			t.Errorf("%s: %+v", scheme, r)
		}
	}
	h3 := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	resp, err := (&http.Client{Transport: h3}).Get("https://" + udp.LocalAddr().String() + "/file/5000?seed=3")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	want, _ := io.ReadAll(Body(3, 5000))
	if err != nil || string(got) != string(want) {
		t.Errorf("HTTP/3: %d bytes, %v", len(got), err)
	}
	resp.Body.Close()
	h3.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	udp.Close()
}
