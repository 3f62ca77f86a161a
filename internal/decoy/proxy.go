package decoy

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// dialTimeout, answerTimeout and idleTimeout are what ordinary reverse proxies wait for their site.
	dialTimeout   = 10 * time.Second
	answerTimeout = 60 * time.Second
	idleTimeout   = 90 * time.Second
	// idleConns are kept open to the one site there is.
	idleConns = 32
	// complainEvery keeps strangers from filling the log.
	complainEvery = time.Minute
)

// newProxy makes a stock reverse proxy, but for its log: that would name addresses.
func newProxy(c Config) (http.Handler, error) {
	if c.Upstream == nil || c.Upstream.Host == "" || c.Upstream.Scheme != "http" && c.Upstream.Scheme != "https" {
		return nil, errors.New("a proxy needs an http or https address to go to")
	}
	upstream := *c.Upstream
	complain := &complaints{logger: c.Logger}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&upstream)
			// A plain http upstream is the operator's own program beside the gateway, and has to know under what name it
			// is visited; an https one answers to its own. Caddy tells them apart in the same way.
			if upstream.Scheme == "http" {
				r.Out.Host = r.In.Host
			}
			r.SetXForwarded()
			if !c.ForwardedFor {
				r.Out.Header.Del("X-Forwarded-For")
			}
		},
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: answerTimeout,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       idleTimeout,
			MaxIdleConnsPerHost:   idleConns,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // what the visitor and the site agree on passes as it is
		},
		ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			complain.about(r.Context(), err)
			w.WriteHeader(http.StatusBadGateway) // and no more, as the stock one
		},
	}, nil
}

// complaints tell the operator that the upstream is down: what failed, never where or for whom.
type complaints struct {
	logger *slog.Logger
	last   atomic.Int64 // UnixNano
}

func (c *complaints) about(ctx context.Context, err error) {
	if c.logger == nil || ctx.Err() != nil { // the visitor left
		return
	}
	now, last := time.Now().UnixNano(), c.last.Load()
	if last != 0 && now-last < int64(complainEvery) || !c.last.CompareAndSwap(last, now) {
		return
	}
	c.logger.Warn("the website's upstream does not answer: visitors get error 502", "reason", reason(err))
}

// reason says what failed without the addresses that errors of package net carry.
func reason(err error) string {
	var timeout net.Error
	var system syscall.Errno
	var lookup *net.DNSError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it took too long"
	case errors.As(err, &system):
		return system.Error()
	case errors.As(err, &lookup):
		return "its name is not found"
	}
	return "it does not speak HTTP, or its certificate is not trusted"
}
