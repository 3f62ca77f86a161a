// Package decoy is the website that strangers see at a gateway. It is served by net/http as it comes, so that headers,
// ranges, redirects and errors are those of a large class of servers, and shows pages that no other gateway shows.
//
//	Site       a small site made up from a seed (package smallsite), from memory
//	Empty      a Go server that nobody has given anything to serve
//	Directory  files of the operator's
//	Proxy      a site that runs elsewhere, by httputil.ReverseProxy
//
// Nothing is written about who asks for what, and nothing here says what it is a part of.
package decoy

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/internal/decoy/smallsite"
)

// Kind is the kind of a website.
type Kind string

const (
	Site      Kind = "site"
	Empty     Kind = "empty"
	Directory Kind = "directory"
	Proxy     Kind = "proxy"
)

// Config says what strangers see.
type Config struct {
	// Kind; empty means Site.
	Kind Kind

	// Seed is what a Site is made from. It is as secret as what tells one gateway from another.
	Seed [32]byte
	// Base is about when a Site was last worked on. It must be the same at every start.
	Base time.Time
	// CookieName and CookieLen are of the session cookie that the pages of a Site set where there is none; an empty name
	// means no cookie.
	CookieName string
	CookieLen  int
	// Random makes the bytes of a cookie; nil means crypto/rand.
	Random func(b []byte)

	// Directory is the path of the files.
	Directory string

	// Upstream is where the site of a Proxy is: http or https, a host, perhaps a path, and nothing else.
	Upstream *url.URL
	// ForwardedFor tells the upstream each visitor's address; it may well write that down.
	ForwardedFor bool
	// Logger hears, at most once a minute, that the upstream does not answer; nil is silence.
	Logger *slog.Logger
}

// longestCookie is what every browser takes, with its name and attributes.
const longestCookie = 3800

// New makes the website. It is for the life of the process: a Directory is held open.
func New(c Config) (http.Handler, error) {
	switch c.Kind {
	case Site, "":
		return newSite(c)
	case Empty:
		return http.NewServeMux(), nil
	case Directory:
		root, err := os.OpenRoot(c.Directory)
		if err != nil {
			return nil, err
		}
		if _, err := fs.ReadDir(root.FS(), "."); err != nil {
			root.Close()
			return nil, err
		}
		return http.FileServerFS(published{root.FS()}), nil
	case Proxy:
		return newProxy(c)
	}
	return nil, fmt.Errorf("no kind of website is called %q", c.Kind)
}

func newSite(c Config) (http.Handler, error) {
	files := published{smallsite.New(c.Seed, c.Base)}
	if c.CookieName == "" {
		return http.FileServerFS(files), nil
	}
	if err := (&http.Cookie{Name: c.CookieName, Value: "x"}).Valid(); err != nil {
		return nil, err
	}
	if c.CookieLen < 1 || c.CookieLen > longestCookie {
		return nil, fmt.Errorf("a cookie of %d bytes: 1 to %d can be", c.CookieLen, longestCookie)
	}
	return &site{files: files, serve: http.FileServerFS(files), cookie: c.CookieName, length: c.CookieLen, random: c.Random}, nil
}

// site gives visitors of its pages a session cookie, as web frameworks do.
type site struct {
	files  published
	serve  http.Handler
	cookie string
	length int
	random func([]byte)
}

// cookieAge is a month, in seconds: a browser that was closed in between still has the cookie, as a client always does.
const cookieAge = 30 * 24 * 60 * 60

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie(s.cookie); err != nil && s.isPage(r.URL.Path) {
		value := make([]byte, base64.RawURLEncoding.DecodedLen(s.length)+1)
		if s.random != nil {
			s.random(value)
		} else {
			rand.Read(value)
		}
		http.SetCookie(w, &http.Cookie{
			Name: s.cookie, Value: base64.RawURLEncoding.EncodeToString(value)[:s.length],
			Path: "/", MaxAge: cookieAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
	s.serve.ServeHTTP(w, r)
}

// isPage reports whether http.FileServer answers a path with a page, rather than a redirect, an error or another file.
func (s *site) isPage(url string) bool {
	name := strings.TrimPrefix(path.Clean("/"+url), "/")
	if strings.HasSuffix(url, "/") {
		name = path.Join(name, "index.html")
	} else if path.Base(name) == "index.html" {
		return false // redirected to the directory
	}
	info, err := fs.Stat(s.files, name)
	return err == nil && !info.IsDir() && path.Ext(name) == ".html"
}

// published is what of a file system is for the public: no hidden files, and no lists of what is in a directory. Both
// are answered as what is not there. A list would show names that nobody linked to, in the bare form by which Go's file
// server is known; most sites answer 404, as Caddy and most programs around http.FileServer do.
type published struct{ fs.FS }

func (p published) Open(name string) (fs.File, error) {
	if hidden(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := p.FS.Open(name)
	if err != nil {
		return nil, missing(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, missing(err)
	}
	if info.IsDir() {
		if index, err := fs.Stat(p.FS, path.Join(name, "index.html")); err != nil || index.IsDir() {
			f.Close()
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
	}
	return f, nil
}

// Stat lets http.FileServer tell a file below a file from a fault, also where the directory has no index.
func (p published) Stat(name string) (fs.FileInfo, error) {
	if hidden(name) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	info, err := fs.Stat(p.FS, name)
	return info, missing(err)
}

// hidden are .git, .env and the like; .well-known is there to be read (RFC 8615). So are names that no file can have, to
// which http.Dir says 404 as well.
func hidden(name string) bool {
	if _, err := filepath.Localize(name); err != nil {
		return true
	}
	for i, part := range strings.Split(name, "/") {
		if strings.HasPrefix(part, ".") && part != "." && !(i == 0 && part == ".well-known") {
			return true
		}
	}
	return false
}

// missing makes os.Root's refusal to follow a link out of the directory the same as no such file. Errors of the system
// stay: http.FileServer has its answers to them.
func missing(err error) error {
	var system syscall.Errno
	if err == nil || errors.As(err, &system) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fs.ErrNotExist
}
