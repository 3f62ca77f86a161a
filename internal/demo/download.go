package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// download is a visitor's large file on its way.
type download struct {
	done chan struct{} // closed at its end, after which err and sum are set
	err  error
	sum  [sha256.Size]byte

	mu    sync.Mutex
	bytes int64
	last  time.Time     // when the last of them came
	pause time.Duration // the longest without any, since the last mark
}

// startDownload begins to fetch url. Cancel ctx to end it early; done tells when it has ended.
func startDownload(ctx context.Context, visitor *http.Client, url string) *download {
	d := &download{done: make(chan struct{}), last: time.Now()}
	go func() {
		defer close(d.done)
		d.err = d.fetch(ctx, visitor, url)
	}()
	return d
}

func (d *download) fetch(ctx context.Context, visitor *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := visitor.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	hash := sha256.New()
	b := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(b)
		hash.Write(b[:n])
		d.count(n)
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	hash.Sum(d.sum[:0])
	if d.bytes != resp.ContentLength {
		return fmt.Errorf("%d of %d bytes came", d.bytes, resp.ContentLength)
	}
	return nil
}

func (d *download) count(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.pause = max(d.pause, now.Sub(d.last))
	d.bytes += int64(n)
	d.last = now
}

// mark begins to look for the longest pause anew.
func (d *download) mark() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pause = 0
}

// progress is how far it has come, the longest pause since the mark, and how long nothing has come by now.
func (d *download) progress() (bytes int64, pause, silent time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes, d.pause, time.Since(d.last)
}
