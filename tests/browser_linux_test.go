package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"html"
	"image"
	"image/png"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// objects is how many objects the page loads: a third are images, a third scripts, a third fetched data.
const objects = 100

// A page is what the browser test loads. Its script writes what it saw into the document; the document does not finish
// loading, and so is not printed, before the script has said that it is done.
type page struct {
	once sync.Once
	done chan struct{}
}

func (p *page) routes(mux *http.ServeMux) {
	p.done = make(chan struct{})
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		var scripts strings.Builder
		for i := 1; i < objects; i += 3 {
			fmt.Fprintf(&scripts, "<script async src=\"/object/%d\"></script>\n", i)
		}
		fmt.Fprintf(w, pageText, scripts.String(), objects)
	})
	mux.HandleFunc("GET /object/{i}", object)
	mux.HandleFunc("GET /last", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-p.done:
		case <-r.Context().Done():
		case <-time.After(90 * time.Second):
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /done", func(http.ResponseWriter, *http.Request) { p.once.Do(func() { close(p.done) }) })
}

// object is an image that is i+1 wide, or a script that counts itself, or data.
func object(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(r.PathValue("i"))
	if err != nil || i < 0 || i >= objects {
		http.NotFound(w, r)
		return
	}
	switch i % 3 {
	case 0:
		w.Header().Set("Content-Type", "image/png")
		_ = png.Encode(w, image.NewGray(image.Rect(0, 0, i+1, 1)))
	case 1:
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, "scripts += %d;", i)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.CopyN(w, content(r.PathValue("i")), int64(i*2000))
	}
}

const pageText = `<!doctype html>
<html><head><title>e2e</title><script>var scripts = 0;</script></head><body>
<pre id="result">unfinished</pre>
<img src="/last" alt="">
%s
<script>
const objects = %d;
function fnv(bytes) {
	let h = 0x811c9dc5;
	for (const b of bytes) h = Math.imul(h ^ b, 0x01000193) >>> 0;
	return h;
}
function loadImage(i) {
	return new Promise((ok, no) => {
		const img = new Image();
		img.onload = () => ok(img.naturalWidth);
		img.onerror = () => no(new Error('image ' + i));
		img.src = '/object/' + i;
	});
}
async function load(i) {
	const answer = await fetch('/object/' + i);
	return fnv(new Uint8Array(await answer.arrayBuffer()));
}
function sockets() {
	return new Promise((ok, no) => {
		const ws = new WebSocket('wss://' + location.host + '/echo');
		const big = new Uint8Array(300000).map((_, i) => i * 7);
		let rounds = 0;
		ws.binaryType = 'arraybuffer';
		ws.onopen = () => ws.send('round 0');
		ws.onerror = () => no(new Error('websocket'));
		ws.onmessage = (m) => {
			if (m.data instanceof ArrayBuffer) {
				ws.close();
				return ok({rounds: rounds, big: m.data.byteLength, same: fnv(new Uint8Array(m.data)) === fnv(big)});
			}
			if (m.data !== 'round ' + rounds) return no(new Error('websocket said ' + m.data));
			if (++rounds < 50) ws.send('round ' + rounds); else ws.send(big);
		};
	});
}
async function main() {
	const images = [], data = [];
	for (let i = 0; i < objects; i++) {
		if (i %% 3 === 0) images.push(loadImage(i));
		if (i %% 3 === 2) data.push(load(i));
	}
	const echoed = sockets();
	const result = {images: await Promise.all(images), data: await Promise.all(data), socket: await echoed};
	while (document.querySelectorAll('script[async]').length !== performance.getEntriesByType('resource')
		.filter((r) => r.initiatorType === 'script' && r.responseEnd > 0).length) {
		await new Promise((ok) => setTimeout(ok, 20));
	}
	result.scripts = scripts;
	result.protocol = performance.getEntriesByType('navigation')[0].nextHopProtocol;
	return JSON.stringify(result);
}
main().catch((e) => 'failed: ' + e).then((text) => {
	document.getElementById('result').textContent = text;
	return fetch('/done', {method: 'POST'});
});
</script></body></html>
`

var resultText = regexp.MustCompile(`(?s)<pre id="result">(.*?)</pre>`)

// TestBrowser has Chromium load a page of a hundred objects and talk over a WebSocket, through either kind of proxy.
func TestBrowser(t *testing.T) {
	needGodwit(t)
	need(t, "chromium")
	for _, proxy := range []string{"socks5", "http"} {
		t.Run(proxy, func(t *testing.T) {
			w := up(t)
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
			defer cancel()
			cmd := w.client.command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
				"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
				"--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
				"--user-data-dir="+filepath.Join(w.dir, "chromium"), "--proxy-server="+proxy+"://"+proxyAddr,
				"--dump-dom", "https://site.test/page")
			dom, complaint, err := output(ctx, cmd)
			if err != nil {
				t.Fatalf("chromium: %v\n%s", err, complaint)
			}
			m := resultText.FindStringSubmatch(dom)
			if m == nil {
				t.Fatalf("chromium printed no result:\n%s\n%s", dom, complaint)
			}
			checkPage(t, html.UnescapeString(m[1]))
		})
	}
}

// output runs a command that ctx may end.
func output(ctx context.Context, cmd *exec.Cmd) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second // its helpers may outlive it, holding the pipes
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err = cmd.Wait()
	return out.String(), errs.String(), err
}

// checkPage compares what the page saw with what the site sent.
func checkPage(t *testing.T, text string) {
	t.Helper()
	var got struct {
		Images, Data []int64
		Scripts      int
		Protocol     string
		Socket       struct {
			Rounds, Big int
			Same        bool
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("the page says %q", text)
	}
	var images, data []int64
	scripts := 0
	for i := range objects {
		switch i % 3 {
		case 0:
			images = append(images, int64(i+1))
		case 1:
			scripts += i
		default:
			h := fnv.New32a()
			if _, err := io.CopyN(h, content(strconv.Itoa(i)), int64(i*2000)); err != nil {
				t.Fatal(err)
			}
			data = append(data, int64(h.Sum32()))
		}
	}
	if fmt.Sprint(got.Images) != fmt.Sprint(images) {
		t.Errorf("widths of images are %v, want %v", got.Images, images)
	}
	if fmt.Sprint(got.Data) != fmt.Sprint(data) {
		t.Errorf("checksums of data are %v, want %v", got.Data, data)
	}
	if got.Scripts != scripts {
		t.Errorf("scripts add up to %d, want %d", got.Scripts, scripts)
	}
	if got.Protocol != "h2" {
		t.Errorf("the page came over %q, want HTTP/2", got.Protocol)
	}
	if s := got.Socket; s.Rounds != 50 || s.Big != 300000 || !s.Same {
		t.Errorf("the WebSocket saw %+v, want 50 rounds and 300000 bytes echoed", s)
	}
}
