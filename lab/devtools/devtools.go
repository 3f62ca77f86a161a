// Package devtools has a Chromium do what it is told, by the DevTools protocol over pipes. Whatever happens in one of its
// windows shares nothing with another: no cookies, no connections, no names, no TLS sessions, as if it had just been started.
package devtools

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// patience is how long Chromium may take for an answer, and for a page.
const patience = time.Minute

// Args are the arguments of a Chromium that keeps what it must in a directory, and by itself speaks to nobody. It trusts every
// certificate, and as root it refuses to have a sandbox.
func Args(dir string, more ...string) []string {
	return append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
		"--user-data-dir=" + dir, "--remote-debugging-pipe"}, more...)
}

// A Browser is a Chromium that runs. Its methods may be called from any goroutine.
type Browser struct {
	in, out *os.File

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

// Start starts a Chromium of these Args by start, such as cmd.Start, and gives it the pipes.
func Start(cmd *exec.Cmd, start func(*exec.Cmd) error) (*Browser, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	cmd.ExtraFiles = []*os.File{inR, outW} // descriptors 3 and 4, where Chromium looks
	err = start(cmd)
	_, _ = inR.Close(), outW.Close()
	if err != nil {
		return nil, errors.Join(err, inW.Close(), outR.Close())
	}
	b := &Browser{in: inW, out: outR, waiting: map[int]chan reply{}, loaded: map[string]chan struct{}{}}
	go b.read()
	return b, nil
}

// Close asks it to end. Whoever started it waits for that.
func (b *Browser) Close() error {
	_, err := b.Call("", "Browser.close", nil)
	return errors.Join(err, b.in.Close())
}

// read hands out what Chromium says: answers to who asked, and the news that a page is loaded. It ends with the process.
func (b *Browser) read() {
	defer func() { _ = b.out.Close() }()
	r := bufio.NewReader(b.out)
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

// Call asks Chromium to do something, in one of its pages if a session is given.
func (b *Browser) Call(session, method string, params map[string]any) (result map[string]any, err error) {
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
	case <-time.After(patience):
		return nil, fmt.Errorf("%s: no answer", method)
	}
}

// A Window is an incognito one.
type Window struct {
	b           *Browser
	context, id string
	session     string
	loaded      chan struct{}
}

// Window opens one. Proxy, if not empty, is what its connections go through.
func (b *Browser) Window(proxy string) (*Window, error) {
	params := map[string]any{}
	if proxy != "" {
		params["proxyServer"] = proxy
	}
	made, err := b.Call("", "Target.createBrowserContext", params)
	if err != nil {
		return nil, err
	}
	w := &Window{b: b, loaded: make(chan struct{}, 1)}
	w.context, _ = made["browserContextId"].(string)
	if made, err = b.Call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": w.context}); err != nil {
		return nil, err
	}
	w.id, _ = made["targetId"].(string)
	if made, err = b.Call("", "Target.attachToTarget", map[string]any{"targetId": w.id, "flatten": true}); err != nil {
		return nil, err
	}
	w.session, _ = made["sessionId"].(string)
	b.mu.Lock()
	b.loaded[w.session] = w.loaded
	b.mu.Unlock()
	_, err = w.Call("Page.enable", nil)
	return w, err
}

// Call asks Chromium to do something in the window.
func (w *Window) Call(method string, params map[string]any) (map[string]any, error) {
	return w.b.Call(w.session, method, params)
}

// Open loads a page.
func (w *Window) Open(url string) error {
	result, err := w.Call("Page.navigate", map[string]any{"url": url})
	if err != nil {
		return err
	}
	if text, _ := result["errorText"].(string); text != "" {
		return errors.New(text)
	}
	select {
	case <-w.loaded:
		return nil
	case <-time.After(patience):
		return errors.New("the page did not load")
	}
}

// Evaluate runs a script in the page and puts what it comes to, which JSON must be able to say, into v.
func (w *Window) Evaluate(script string, v any) error {
	result, err := w.Call("Runtime.evaluate", map[string]any{"expression": "JSON.stringify(" + script + ")", "returnByValue": true})
	if err != nil {
		return err
	}
	value, _ := result["result"].(map[string]any)
	text, ok := value["value"].(string)
	if !ok {
		return fmt.Errorf("script: %v", result)
	}
	return json.Unmarshal([]byte(text), v)
}

// A Cookie is one of a site's, as DevTools has it.
type Cookie map[string]any

// Cookies are what the window has been given.
func (w *Window) Cookies() (all []Cookie, err error) {
	result, err := w.b.Call("", "Storage.getCookies", map[string]any{"browserContextId": w.context})
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

// SetCookies gives it some.
func (w *Window) SetCookies(cookies []Cookie) error {
	_, err := w.b.Call("", "Storage.setCookies", map[string]any{"browserContextId": w.context, "cookies": cookies})
	return err
}

// ForgetPages empties the window's cache of pages.
func (w *Window) ForgetPages() error {
	_, err := w.Call("Network.clearBrowserCache", nil)
	return err
}

// Close closes the window and its connections.
func (w *Window) Close() error {
	w.b.mu.Lock()
	delete(w.b.loaded, w.session)
	w.b.mu.Unlock()
	_, err := w.b.Call("", "Target.disposeBrowserContext", map[string]any{"browserContextId": w.context})
	return err
}
