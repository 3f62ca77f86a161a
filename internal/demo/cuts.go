package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godwit-vpn/godwit/client"
)

// When the download's link is cut, as parts of the download, and how.
var cuts = []struct {
	kind string
	at   float64
	do   func(*pipe)
	// how a cut that nobody could see coming shows at the client
	signs []client.EventKind
	told  string
}{
	{"reset", 0.3, (*pipe).reset, []client.EventKind{client.LinkDown}, "was reset"},
	{"black hole", 0.6, (*pipe).swallow, []client.EventKind{client.LinkSuspected, client.LinkDown}, "went silent"},
}

// lookFor is how long a cut's consequences are waited for, and lookEvery how often the download is looked at.
const (
	lookFor   = 10 * time.Second
	lookEvery = 50 * time.Millisecond
)

// cutDownload fetches the large file and cuts the link that carries it, twice.
func (s *show) cutDownload(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, 2*s.cfg.Lasting+patience)
	defer cancel()
	began := time.Now()
	d := startDownload(bounded, s.visitor, "http://"+s.sites.plain.Addr().String()+downloadPath)
	defer func() {
		cancel()
		<-d.done
	}()
	for _, c := range cuts {
		if !s.until(bounded, d, began, func(bytes int64) bool {
			return float64(bytes) >= c.at*float64(s.cfg.Size) && s.healthy() > 1
		}) {
			break
		}
		if err := s.cut(bounded, d, began, c.kind, c.told, c.do, c.signs); err != nil {
			return s.check(ctx, c.kind, err, "")
		}
	}
	s.until(bounded, d, began, func(int64) bool { return false })
	<-d.done
	took := time.Since(began)
	bytes, _, _ := d.progress()
	sent := s.sites.sent()
	s.result.Download = Download{Bytes: bytes, Seconds: took.Seconds()}
	s.result.Download.sums(sent, d.sum)
	err := d.err
	switch {
	case err != nil:
		err = fmt.Errorf("it broke after %d of %d bytes: %w", bytes, s.cfg.Size, err)
	case d.sum != sent:
		err = errors.New("what came is not what was sent")
	case s.sites.downloads.Load() != 1:
		err = fmt.Errorf("it took %d connections", s.sites.downloads.Load())
	case len(s.result.Cuts) != len(cuts):
		err = fmt.Errorf("only %d of %d cuts were made", len(s.result.Cuts), len(cuts))
	}
	if err := s.check(ctx, "download", err, "%d MB in %s, on one connection: nothing lost, nothing fetched again",
		bytes/1e6, brief(took)); err != nil {
		return err
	}
	s.screen.more("SHA-256 sent      %s…", s.result.Download.Expect[:24])
	s.screen.more("SHA-256 received  %s…", s.result.Download.Got[:24])
	return nil
}

// until looks at the download until enough says so; false is that it has ended before.
func (s *show) until(ctx context.Context, d *download, began time.Time, enough func(bytes int64) bool) bool {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-d.done:
			return false
		case <-ctx.Done():
			return false
		}
		bytes, _, silent := d.progress()
		rate := float64(bytes) / 1e6 / time.Since(began).Seconds()
		text := fmt.Sprintf("%.0f MB/s over %d links", rate, s.healthy())
		if silent > 4*lookEvery {
			text = fmt.Sprintf("nothing for %s", brief(silent))
		}
		s.screen.bar(float64(bytes)/float64(s.cfg.Size), text)
		if enough(bytes) {
			return true
		}
	}
}

// healthy counts the client's links that work.
func (s *show) healthy() int {
	n := 0
	for _, l := range s.client.Status().Links {
		if l.State == "healthy" {
			n++
		}
	}
	return n
}

// cut cuts the link that carries the download, and looks which one goes on with it.
func (s *show) cut(ctx context.Context, d *download, began time.Time, kind, told string, do func(*pipe),
	signs []client.EventKind) error {
	before, received := s.net.counts(), s.received()
	s.until(ctx, d, began, func(int64) bool { return true }) // a moment later
	p := s.net.busiest(before)
	if p == nil {
		return errors.New("no link carries the download")
	}
	carrier := grown(received, s.received(), 0)
	d.mark()
	at, _, _ := d.progress()
	when := time.Now()
	do(p)
	received = s.received()
	c := Cut{Kind: kind, AtBytes: at}
	goal := at + s.cfg.Size/20
	limit := when.Add(lookFor)
	s.until(ctx, d, began, func(bytes int64) bool {
		if c.Link == 0 {
			c.Link = s.linkOf(when, signs...)
		}
		if link := c.Link; link != 0 {
			c.TookOver = grown(received, s.received(), link)
		}
		return c.Link != 0 && c.TookOver != 0 && bytes >= goal || time.Now().After(limit)
	})
	_, pause, _ := d.progress()
	c.Pause = float64(pause.Microseconds()) / 1000
	if c.Link == 0 {
		c.Link = carrier // the gateway noticed first, and the client not at all
		c.TookOver = grown(received, s.received(), carrier)
	}
	s.result.Cuts = append(s.result.Cuts, c)
	s.screen.cut(kind, fmt.Sprintf("at %.0f %%: link %d, which carried it, %s; link %d went on after a pause of %s",
		100*float64(at)/float64(s.cfg.Size), c.Link, told, c.TookOver, brief(pause)))
	return nil
}

// received is what each link of the client has received so far.
func (s *show) received() map[uint64]uint64 {
	all := make(map[uint64]uint64)
	for _, l := range s.client.Status().Links {
		all[l.ID] = l.Received
	}
	return all
}

// grown is the link, other than one, that received the most since; 0 if none did.
func grown(since, now map[uint64]uint64, except uint64) (best uint64) {
	var most uint64
	for id, n := range now {
		if d := n - since[id]; id != except && d > most {
			best, most = id, d
		}
	}
	return best
}
