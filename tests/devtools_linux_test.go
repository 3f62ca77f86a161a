package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A browser is a Chromium that does what it is told, by the DevTools protocol over pipes. Whatever happens in one of its
// windows shares nothing with another: no cookies, no connections, no TLS sessions, as if it had just been started.
type browser struct {
	*process
	in *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
	loaded  map[string]chan struct{} // by DevTools' session
	ended   error
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Method  string `json:"method"`
	Session string `json:"sessionId"`
}

// A cookie is one of a site's, as DevTools has it.
type cookie map[string]any

// browse starts Chromium on the client's machine.
func (w *world) browse(args ...string) *browser {
	w.t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := w.client.command("chromium", append([]string{"--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--ignore-certificate-errors", "--user-data-dir=" + filepath.Join(w.dir, "browser"),
		"--remote-debugging-pipe"}, args...)...)
	cmd.ExtraFiles = []*os.File{inR, outW} // descriptors 3 and 4, where Chromium looks
	b := &browser{in: inW, waiting: map[int]chan reply{}, loaded: map[string]chan struct{}{}}
	b.process = w.start("chromium", cmd)
	_, _ = inR.Close(), outW.Close()
	go b.read(outR)
	w.t.Cleanup(func() {
		_, _ = b.call("", "Browser.close", nil)
		b.stop(syscall.SIGTERM, 20*time.Second)
		_ = inW.Close()
	})
	return b
}

// read hands out what Chromium says: answers to who asked, and the news that a page is loaded.
func (b *browser) read(out *os.File) {
	defer func() { _ = out.Close() }()
	r := bufio.NewReader(out)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ended = err
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
			return
		}
		var m reply
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		if c := b.waiting[m.ID]; c != nil {
			delete(b.waiting, m.ID)
			c <- m
		}
		if c := b.loaded[m.Session]; c != nil && m.Method == "Page.loadEventFired" {
			select {
			case c <- struct{}{}:
			default:
			}
		}
		b.mu.Unlock()
	}
}

// call asks Chromium to do something, in one of its pages if a session is given.
func (b *browser) call(session, method string, params map[string]any) (result map[string]any, err error) {
	answer := make(chan reply, 1)
	b.mu.Lock()
	if b.ended != nil {
		b.mu.Unlock()
		return nil, b.ended
	}
	b.last++
	m := map[string]any{"id": b.last, "method": method}
	if params != nil {
		m["params"] = params
	}
	if session != "" {
		m["sessionId"] = session
	}
	b.waiting[b.last] = answer
	b.mu.Unlock()
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		return nil, err
	}
	select {
	case a, ok := <-answer:
		switch {
		case !ok:
			return nil, io.ErrUnexpectedEOF
		case a.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		return result, json.Unmarshal(a.Result, &result)
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("%s: no answer", method)
	}
}

// A window is an incognito one.
type window struct {
	b                    *browser
	context, id, session string
	loaded               chan struct{}
}

// window opens one. Proxy, if not empty, is what its connections go through.
func (b *browser) window(proxy string) (*window, error) {
	params := map[string]any{}
	if proxy != "" {
		params["proxyServer"] = proxy
	}
	made, err := b.call("", "Target.createBrowserContext", params)
	if err != nil {
		return nil, err
	}
	win := &window{b: b, loaded: make(chan struct{}, 1)}
	win.context, _ = made["browserContextId"].(string)
	if made, err = b.call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": win.context}); err != nil {
		return nil, err
	}
	win.id, _ = made["targetId"].(string)
	if made, err = b.call("", "Target.attachToTarget", map[string]any{"targetId": win.id, "flatten": true}); err != nil {
		return nil, err
	}
	win.session, _ = made["sessionId"].(string)
	b.mu.Lock()
	b.loaded[win.session] = win.loaded
	b.mu.Unlock()
	_, err = b.call(win.session, "Page.enable", nil)
	return win, err
}

// open loads a page.
func (win *window) open(url string) error {
	result, err := win.b.call(win.session, "Page.navigate", map[string]any{"url": url})
	if err != nil {
		return err
	}
	if text, _ := result["errorText"].(string); text != "" {
		return errors.New(text)
	}
	select {
	case <-win.loaded:
		return nil
	case <-time.After(time.Minute):
		return errors.New("the page did not load")
	}
}

// cookies are what the window has been given; setCookies gives it some.
func (win *window) cookies() (all []cookie, err error) {
	result, err := win.b.call("", "Storage.getCookies", map[string]any{"browserContextId": win.context})
	if err != nil {
		return nil, err
	}
	list, _ := result["cookies"].([]any)
	for _, c := range list {
		if c, ok := c.(map[string]any); ok {
			all = append(all, c)
		}
	}
	return all, nil
}

func (win *window) setCookies(cookies []cookie) error {
	_, err := win.b.call("", "Storage.setCookies",
		map[string]any{"browserContextId": win.context, "cookies": cookies})
	return err
}

// forgetPages empties the window's cache of pages.
func (win *window) forgetPages() error {
	_, err := win.b.call(win.session, "Network.clearBrowserCache", nil)
	return err
}

// close closes the window and its connections.
func (win *window) close() error {
	win.b.mu.Lock()
	delete(win.b.loaded, win.session)
	win.b.mu.Unlock()
	_, err := win.b.call("", "Target.disposeBrowserContext", map[string]any{"browserContextId": win.context})
	return err
}
