package https

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	tls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/doorstep"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// Visit is what a stranger finds at an endpoint.
type Visit struct {
	Group        string // whose keys were exchanged
	PostQuantum  bool
	Protocol     string // "h2", "http/1.1", or none
	Certificates []*x509.Certificate
	Handshake    time.Duration

	Page   *Page // nil if the website did not answer
	Answer time.Duration
}

// Page is an answer of a website: as much of it as was looked at.
type Page struct {
	Status int
	Header http.Header
	Body   []byte // its beginning, as it was sent
}

const (
	maxPage       = 256 << 10 // of the body
	maxPageHeader = 64 << 10
)

// Look visits the website at an endpoint as the browser does that a Dialer looks like, without a knock, whatever key it
// has: nothing of an access key is sent, and the endpoint's pins and opener are not used. It owns tcp. With an error
// there is a Visit, too, if the handshake was complete.
func Look(ctx context.Context, tcp net.Conn, ep transport.Endpoint) (*Visit, error) {
	defer tcp.Close()
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, transport.HandshakeTimeout)
	defer cancel()
	tcp.SetDeadline(time.Now().Add(transport.HandshakeTimeout))
	t, err := chrome.Client(chrome.Fragmented(tcp, ep.Fragment), &tls.Config{ServerName: ep.Name, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, &transport.DialError{Transport: Name, Stage: transport.StageHandshake, Err: chrome.Reason(err)}
	}
	defer t.Close()
	state, group := t.ConnectionState(), chrome.Group(t)
	v := &Visit{Group: group.String(), PostQuantum: group == tls.X25519MLKEM768, Protocol: state.NegotiatedProtocol,
		Certificates: state.PeerCertificates, Handshake: time.Since(began)}
	began = time.Now()
	tcp.SetDeadline(began.Add(transport.HandshakeTimeout))
	if v.Protocol == http2.NextProtoTLS {
		v.Page, err = page2(t, doorstep.Authority(ep, "443"))
	} else {
		v.Page, err = page1(t, doorstep.Authority(ep, "443"))
	}
	v.Answer = time.Since(began)
	return v, err
}

// LookPlain asks for the first page of http://host/ on tcp, which it owns, as the browser does.
func LookPlain(ctx context.Context, tcp net.Conn, host string) (*Page, error) {
	defer tcp.Close()
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	defer stop()
	tcp.SetDeadline(time.Now().Add(transport.HandshakeTimeout))
	return page1(tcp, host)
}

// page1 asks by HTTP/1.1.
func page1(c net.Conn, host string) (*Page, error) {
	if _, err := c.Write(chrome.PlainRequest(host)); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, maxPageHeader+maxPage)), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if len(body) > 0 {
		err = nil // enough was seen
	}
	return &Page{Status: resp.StatusCode, Header: resp.Header, Body: body}, err
}

// page2 asks by HTTP/2.
func page2(c net.Conn, authority string) (*Page, error) {
	for _, record := range chrome.Opening(authority, "") {
		if _, err := c.Write(record); err != nil {
			return nil, err
		}
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.MaxHeaderListSize = maxPageHeader
	f.SetMaxReadFrameSize(maxPage)
	p := new(Page)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return nil, err
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = f.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			status, _ := strconv.Atoi(frame.PseudoValue("status"))
			if status < 200 { // an early hint, or the trailers
				ended = frame.StreamEnded()
				break
			}
			p.Status, p.Header, ended = status, make(http.Header), frame.StreamEnded()
			for _, h := range frame.RegularFields() {
				p.Header.Add(h.Name, h.Value)
			}
		case *http2.DataFrame:
			data := frame.Data()
			p.Body = append(p.Body, data[:min(len(data), maxPage-len(p.Body))]...)
			ended = frame.StreamEnded() || len(p.Body) == maxPage
		case *http2.RSTStreamFrame:
			err = fmt.Errorf("the request was reset: %v", frame.ErrCode)
		case *http2.GoAwayFrame:
			if frame.ErrCode == http2.ErrCodeNo && frame.LastStreamID > 0 {
				break // no more requests, but this one is answered
			}
			err = fmt.Errorf("the server said goodbye: %v", frame.ErrCode)
		}
		switch {
		case err != nil:
			return nil, err
		case ended && p.Status == 0:
			return nil, errors.New("the server's answer has no status")
		case ended:
			return p, nil
		}
	}
}
