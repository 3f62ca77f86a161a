package client

import (
	"context"
	"errors"
	"io"
	"maps"
	mrand "math/rand/v2"
	"path/filepath"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/transports"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// askEvery is how often the gateway is asked for a newer browser, give or take an eighth.
	askEvery = 24 * time.Hour
	// askAgain is when it is asked again if no answer came.
	askAgain = time.Hour
	// askTimeout bounds a question.
	askTimeout = time.Minute
)

// askWithin is how long after an application's connection a client asks at the latest, and an eighth of it is the earliest:
// with what else goes over the link then, but not with the connection's beginning, which is shaped.
var askWithin = 4 * time.Second

// Browser is what visits look like.
type Browser struct {
	Family string    `json:"family"` // chrome or firefox
	Date   time.Time `json:"date"`   // when its profile was measured or, if it is of the network, signed
	// Source is "built-in", or "network" for a profile that the gateway sent and the network's operator has signed.
	Source string `json:"source"`
}

// findBrowser finds what the client's visits look like: of the browser that the device has for life, unless another is
// asked for, the newest version there is.
func (c *Client) findBrowser(family chrome.Family) {
	if family == "" {
		family = chrome.FamilyOf(c.identity.key.Public())
	}
	var files []string
	if c.cfg.StateDir != "" {
		files = []string{c.browserFile(family)}
	}
	b, err := chrome.Load(family, c.cfg.Key.DirectoryKey, files...)
	if err != nil {
		c.log.Warn("a browser's profile that was kept is of no use, and ignored", "err", err)
	}
	c.browser = b
}

func (c *Client) browserFile(f chrome.Family) string {
	return filepath.Join(c.cfg.StateDir, "browser."+string(f))
}

// wearLocked has the next dials look like the newest browser. Where all ways have failed with that, they look every other
// time like the one that the program was built with: no profile, whoever signed it, may be what keeps a client out.
func (c *Client) wearLocked() {
	c.worn = c.browser
	if c.attempts/c.ways.Len()%2 == 1 {
		c.worn = chrome.BuiltIn(c.browser.Family())
	}
	transports.LookLike(maps.Values(c.dialers), c.worn)
}

// wornLocked is what status says of it.
func (c *Client) wornLocked() Browser {
	b := Browser{Family: string(c.worn.Family()), Date: c.worn.Date(), Source: "network"}
	if c.worn == chrome.BuiltIn(c.worn.Family()) {
		b.Source = "built-in"
	}
	return b
}

// followBrowser asks the gateway for a newer version of the browser, now and then, until ctx is done. A link that has nothing
// to carry is silent, and whoever watches could count what breaks that: so it asks when applications use the tunnel.
func (c *Client) followBrowser(ctx context.Context) {
	for {
		select {
		case <-c.used:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, askWithin/8+mrand.N(askWithin*7/8)) {
			return
		}
		wait := askEvery*7/8 + mrand.N(askEvery/4)
		signed, err := c.askBrowser(ctx)
		switch {
		case err != nil:
			wait = askAgain
		case signed != nil:
			if err := c.takeBrowser(signed); err != nil {
				c.log.Warn("a browser's profile that the gateway sent is of no use, and ignored", "err", err)
			}
		}
		if !pause(ctx, wait) {
			return
		}
		select {
		case <-c.used: // meanwhile
		default:
		}
	}
}

// pause waits, and reports whether ctx is not done.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// askBrowser returns what the gateway says is a newer profile, or nil if it has none; so has one of before there were any.
func (c *Client) askBrowser(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c.mu.Lock()
	ask := wire.BrowserAsk{Family: string(c.browser.Family()), Date: c.browser.Date().Unix()}
	c.mu.Unlock()
	st, err := c.open(ctx, flow.Target{Host: ask.Host()}, false)
	switch code := flow.CodeOf(err); {
	case err == nil:
	case code == flow.CodeNameNotFound, code == flow.CodeBadTarget:
		return nil, nil
	default:
		return nil, err
	}
	defer st.Close()
	defer context.AfterFunc(ctx, func() { st.SetDeadline(time.Now()) })()
	if err := st.CloseWrite(); err != nil {
		return nil, err
	}
	signed, err := io.ReadAll(io.LimitReader(st, chrome.MaxSigned+1))
	if err != nil {
		return nil, err
	}
	if len(signed) > chrome.MaxSigned {
		st.Reset(flow.CodeReset)
	}
	return signed, nil
}

// errOlderBrowser is why a profile is ignored that is right, but as old as what there is.
var errOlderBrowser = errors.New("it is older than what there is, or another family's")

// takeBrowser takes a signed profile into use, if it is good and newer, and keeps it for the next run.
func (c *Client) takeBrowser(signed []byte) error {
	b, err := chrome.Verify(signed, c.cfg.Key.DirectoryKey)
	if err != nil {
		return err
	}
	if chrome.Newest(c.browser.Family(), c.browser, b) != b { // only followBrowser changes it
		return errOlderBrowser
	}
	if err := b.Try(); err != nil {
		return err
	}
	if c.cfg.StateDir != "" {
		if err := chrome.Save(c.browserFile(b.Family()), signed, 0o600); err != nil {
			c.log.Warn("a newer browser's profile could not be kept for the next run", "err", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.browser = b
	c.wearLocked()
	c.log.Info("connections look like a newer browser from now on", "family", string(b.Family()), "signed", b.Date())
	return nil
}
