package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

var testSSL = flag.Bool("testssl", false, "have TestScanners run testssl.sh too, which takes minutes")

// plainAddr is the address of a web server beside the gateway, on the same machine.
const plainAddr = "203.0.113.3"

// TestScanners has programs that people scan servers with look at a gateway, and at a web server that serves the same
// files from the same machine by the same key, and is nothing else. They must say the same of both.
func TestScanners(t *testing.T) {
	needGodwit(t)
	w := newWorld(t)
	files := filepath.Join(w.dir, "www")
	if err := os.MkdirAll(filepath.Join(files, "more"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"index.html": 3000, "style.css": 500, "more/index.html": 20000} {
		page := "<!doctype html><title>A page</title><link rel=stylesheet href=/style.css>" + strings.Repeat("text ", size/5)
		if err := os.WriteFile(filepath.Join(files, name), []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.endpoint = gatewayName + ":" + gatewayPort
	w.middle.files["/etc/hosts"] = w.write("middle.hosts", "127.0.0.1 localhost\n"+gatewayAddr+" "+gatewayName+"\n")
	w.initGateway()
	settings := filepath.Join(w.gatewayDir(), "gateway.toml")
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	const table = "[website]\n"
	with := strings.Replace(string(text), table, table+"kind = \"directory\"\ndirectory = \""+files+"\"\n", 1)
	if err := os.WriteFile(settings, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	w.gatewayProcess = w.startGateway()
	w.plainServer(files)

	var requests [][]string
	for _, version := range []string{"--http1.1", "--http2"} {
		for _, request := range [][]string{{"/"}, {"--head", "/"}, {"/more"}, {"/none"}, {"/index.html"}, {"--range", "5-20", "/"},
			{"--request", "OPTIONS", "/"}, {"--data", "x=1", "/"}, {"--request", "PATCH", "/style.css"},
			{"--path-as-is", "/../../etc/passwd"}, {"--header", "Host: other.example", "/"}, {"--header", "If-Range: x", "/"},
			{"--tlsv1.2", "--tls-max", "1.2", "/"}, {"--header", "X-Long: " + strings.Repeat("x", 9000), "/"}} {
			if version == "--http2" && request[0] == "--data" {
				continue // of an answer that does not wait for the body curl sometimes loses the body, at either server
			}
			requests = append(requests, append([]string{version}, request...))
		}
	}
	t.Run("curl", func(t *testing.T) {
		need(t, "curl")
		for _, r := range requests {
			last := len(r) - 1
			w.sameOfBoth(t, func(addr string) string {
				args := append([]string{"--insecure", "--silent", "--verbose", "--max-time", "20"}, r[:last]...)
				return said(w.middle, "curl", append(args, "https://"+addr+r[last])...)
			})
		}
	})
	t.Run("nmap", func(t *testing.T) {
		need(t, "nmap")
		w.sameOfBoth(t, func(addr string) string {
			out := said(w.middle, "nmap", "-sT", "-sV", "-sC", "--script", "+ssl-enum-ciphers,+http-headers,+tls-nextprotoneg",
				"-Pn", "-n", "-p", gatewayPort, addr)
			t.Logf("nmap:\n%s", out)
			if !strings.Contains(out, "ssl/http") {
				t.Error("nmap has not found a web server")
			}
			return out
		})
	})
	t.Run("testssl", func(t *testing.T) {
		if !*testSSL {
			t.Skip("takes minutes: go test ./tests -run TestScanners -testssl -timeout 30m")
		}
		need(t, "testssl")
		w.sameOfBoth(t, func(addr string) string {
			out := said(w.middle, "testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", addr,
				gatewayName+":"+gatewayPort)
			t.Logf("testssl:\n%s", out)
			if !strings.Contains(out, "TLS 1.3") {
				t.Error("testssl has not tested")
			}
			return out
		})
	})
}

// plainServer starts a web server of files, as anyone writes it, with the gateway's certificate.
func (w *world) plainServer(files string) {
	w.t.Helper()
	w.ip(w.gateway, "addr add "+plainAddr+"/24 dev wan")
	var shown *x509.Certificate
	conn, err := w.gateway.dial(net.JoinHostPort(gatewayAddr, gatewayPort))
	if err != nil {
		w.t.Fatal(err)
	}
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	shown = client.ConnectionState().PeerCertificates[0]
	// It has a session cookie and HTTP/3, as many a server has.
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = answer.Body.Close()
	cookie, _, _ := strings.Cut(answer.Header.Get("Set-Cookie"), "=")
	_ = client.Close()
	pages := http.FileServer(http.Dir(files))
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		value := make([]byte, 16)
		_, _ = rand.Read(value)
		rw.Header().Set("Alt-Svc", `h3=":443"; ma=2592000`)
		rw.Header().Set("Set-Cookie", cookie+"="+hex.EncodeToString(value)+"; Path=/; HttpOnly")
		pages.ServeHTTP(rw, r)
	})
	text, err := os.ReadFile(filepath.Join(w.gatewayDir(), "keys", "tls.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	words := strings.Fields(string(text)) // the kind of key, and then it
	scalar, err := base64.StdEncoding.DecodeString(words[len(words)-1])
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		w.t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{shown.Raw}, PrivateKey: key}
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	//lint:ignore SA1019 what is compared is the server around the same HTTP/2: Go's own greets with other bytes
	if err := http2.ConfigureServer(server, nil); err != nil {
		w.t.Fatal(err)
	}
	l := w.gateway.listen(w.t, net.JoinHostPort(plainAddr, gatewayPort))
	go func() { _ = server.ServeTLS(l, "", "") }()
	w.t.Cleanup(func() { _ = server.Close() })
}

// said is what a program says to its end, whatever that is.
func said(h *host, program string, args ...string) string {
	var stdout, stderr strings.Builder
	cmd := h.command(program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); stdout.Len()+stderr.Len() == 0 {
		return fmt.Sprintf("%s %v says nothing: %v", program, args, err)
	}
	return stderr.String() + "\n" + stdout.String()
}

// ofOneRun are the parts of an output that differ from run to run: addresses, moments, durations, what is random.
var ofOneRun = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`203\.0\.113\.\d+`, `\b[0-9a-f]{32}\b`, `(date|last-modified|expires): .*`, `\d+(\.\d+)? ?(s|ms|seconds)\b`, `\d\d:\d\d:\d\d`, `MAC Address: .*`,
	`starting nmap .*`, `local port \d+`, `port \d+ \(#\d+\)`, `0x[0-9a-f]+`, `(easy handle|stream|h2h3|using stream id:?).*`,
	`latency.*`, `\(\d+(-\d+)* --> .*`, `start \d.*`, `done \d.*`, `.*ssl-date.*`, `clock-skew.*`, `\[ *\d+ bytes data\]`,
	`--:--:-- .*`, `SF[-:].*`, `\* (we are completely uploaded|connection state changed|old ssl session).*`,
}, "|"))

// sameOfBoth compares what a program says of the gateway and of the plain server, line by line: what it says in which
// order can be a matter of moments.
func (w *world) sameOfBoth(t *testing.T, look func(addr string) string) {
	t.Helper()
	plain := func(out string) []string {
		return strings.Split(ofOneRun.ReplaceAllString(strings.ReplaceAll(out, "\r", "\n"), "…"), "\n")
	}
	var gateway, other []string
	var wg sync.WaitGroup
	wg.Go(func() { gateway = plain(look(gatewayAddr)) })
	wg.Go(func() { other = plain(look(plainAddr)) })
	wg.Wait()
	var differences []string
	for _, line := range gateway {
		if !slices.Contains(other, line) {
			differences = append(differences, "gateway:      "+line)
		}
	}
	for _, line := range other {
		if !slices.Contains(gateway, line) {
			differences = append(differences, "plain server: "+line)
		}
	}
	if differences != nil {
		t.Errorf("the two differ:\n%s\n\ngateway, whole:\n%s\n\nplain server, whole:\n%s", strings.Join(differences, "\n"),
			strings.Join(gateway, "\n"), strings.Join(other, "\n"))
	}
}
