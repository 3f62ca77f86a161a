package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// ErrNotRunning is matched when no process runs on a directory.
var ErrNotRunning = errors.New("not running")

// Peer is the process that runs on a directory.
type Peer struct {
	PID  int
	http *http.Client
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// askTimeout bounds a question: the process answers from memory.
const askTimeout = 5 * time.Second

// Find returns the process that runs on dir under name, or an error that matches ErrNotRunning.
func Find(dir, name string) (*Peer, error) {
	n, err := readNote(filepath.Join(dir, name+".lock"))
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, err
		}
		return nil, fmt.Errorf("%w (%v)", ErrNotRunning, err)
	}
	p := &Peer{PID: n.PID, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", n.Socket)
		},
		DisableKeepAlives: true,
	}}}
	// A process that was killed has left its note behind, and perhaps its socket.
	c, err := net.DialTimeout("unix", n.Socket, askTimeout)
	switch {
	case err == nil:
		c.Close()
		return p, nil
	case errors.Is(err, os.ErrPermission):
		return nil, err
	}
	return nil, fmt.Errorf("%w: process %d has ended without a word", ErrNotRunning, n.PID)
}

// Status asks for the process's state, as JSON.
func (p *Peer) Status(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := p.do(ctx, "GET", "/status", nil)
	if err != nil {
		return nil, err
	}
	return p.answer(resp)
}

// Steer tells the process what was found of its network, as JSON, and returns what it makes of that, as JSON too.
func (p *Peer) Steer(ctx context.Context, found []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return p.post(ctx, "/steer", found)
}

// Portal asks the process for a way past the tunnel, or for its end, as JSON, and returns its answer, as JSON too.
func (p *Peer) Portal(ctx context.Context, asked []byte) ([]byte, error) {
	return p.post(ctx, "/portal", asked)
}

func (p *Peer) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	resp, err := p.do(ctx, "POST", path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return p.answer(resp)
}

// Reload has the process read again what may have been changed since it began.
func (p *Peer) Reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := p.do(ctx, "POST", "/reload", nil)
	if err == nil {
		_, err = p.answer(resp)
	}
	return err
}

func (p *Peer) answer(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("asking process %d: %w", p.PID, err)
	}
	return text, nil
}

// Stop asks the process to end and waits until it has let go of its directory.
func (p *Peer) Stop(ctx context.Context) error {
	resp, err := p.do(ctx, "POST", "/stop", nil)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// The answer ends when the process has let go, or died.
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	if ctx.Err() != nil {
		return fmt.Errorf("process %d has not ended yet: %w", p.PID, context.Cause(ctx))
	}
	_ = err // it died
	return nil
}

// Upgrade asks the process to have another one take its place, and returns that one's pid once it serves. An error that
// matches ErrUpgrade is the process's own, which goes on as before.
func (p *Peer) Upgrade(ctx context.Context) (pid int, err error) {
	resp, err := p.do(ctx, "POST", "/upgrade", nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer upgraded
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return 0, fmt.Errorf("asking process %d: %w", p.PID, err)
	}
	if answer.Error != "" {
		return 0, fmt.Errorf("process %d %w: %s", p.PID, ErrUpgrade, answer.Error)
	}
	return answer.PID, nil
}

// ErrUpgrade is matched when the process could not be replaced, for the reason that it gives.
var ErrUpgrade = errors.New("could not be replaced")

func (p *Peer) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://local"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := p.http.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" && ctx.Err() == nil {
			return nil, fmt.Errorf("%w: process %d has ended", ErrNotRunning, p.PID)
		}
		return nil, fmt.Errorf("asking process %d: %w", p.PID, err)
	}
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, maxNote))
		resp.Body.Close()
		return nil, fmt.Errorf("asking process %d: %s: %s", p.PID, resp.Status, bytes.TrimSpace(why))
	}
	return resp, nil
}

func readNote(path string) (n note, err error) {
	f, err := os.Open(path)
	if err != nil {
		return n, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err != nil {
		return n, err
	}
	if len(text) == 0 {
		return n, errors.New("it has ended")
	}
	if err := json.Unmarshal(text, &n); err != nil {
		return note{}, fmt.Errorf("lock file %q: %w", path, err)
	}
	return n, nil
}
