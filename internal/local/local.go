// Package local lets a command find, ask and stop the one process that runs on a directory: HTTP and JSON over a socket
// for the owner alone.
//
//	DIR/NAME.lock   held for as long as the process lives; its content, one line of JSON, tells its pid and its socket
//	DIR/NAME.sock   GET /status answers the process's state, POST /stop asks it to end and answers until it has,
//	                POST /upgrade has another process take its place and answers with that one's pid, or why not,
//	                POST /steer tells a client what was found of its network, and answers what it makes of that,
//	                POST /portal lets a person log in to the client's network, and answers how
//
// The lock is the kernel's, so that nothing is left of a process that was killed: whoever takes the lock owns the
// directory, and a socket that lies there is a dead one's. A process that inherits the lock's file has the lock, too: it
// puts its own note and socket in the place of the other's (Adopt), which then lets go (HandOver). Where DIR is too long
// for a socket's path, the socket lies in the user's runtime directory, and the lock file says so.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/internal/filelock"
)

// HeldError is returned by Take for a directory on which a process runs already.
type HeldError struct {
	// PID is the other process's; 0 if it has not told yet.
	PID int
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "another process runs here already"
	}
	return fmt.Sprintf("process %d runs here already", e.PID)
}

// note is the content of a lock file.
type note struct {
	PID    int    `json:"pid"`
	Socket string `json:"socket"`
}

// maxNote bounds what is read of a lock file.
const maxNote = 4 << 10

// Instance is this process's hold on a directory. Close it.
type Instance struct {
	lock     *os.File
	listener *net.UnixListener
	socket   string

	serving sync.WaitGroup
	server  *http.Server
	ended   chan struct{} // closed by Close, once nothing of the instance is left for others to find

	once   sync.Once
	err    error
	handed atomic.Bool
}

// Take makes this process the one that runs on dir under name, or fails with a *HeldError. dir must exist.
func Take(dir, name string) (*Instance, error) {
	path := filepath.Join(dir, name+".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	if err := filelock.Lock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, filelock.ErrLocked) {
			return nil, fmt.Errorf("lock file %q: %w", path, err)
		}
		n, _ := readNote(path)
		return nil, &HeldError{PID: n.PID}
	}
	i := &Instance{lock: f, ended: make(chan struct{})}
	if err := i.listen(dir, name); err != nil {
		f.Close()
		return nil, err
	}
	return i, nil
}

// Adopt makes this process the one that runs on dir under name, in place of the one whose lock it inherited; it owns the
// file in any case. Whoever asks from now on asks this process. The other one should let go with HandOver.
func Adopt(dir, name string, inherited *os.File) (*Instance, error) {
	path := filepath.Join(dir, name+".lock")
	there, err := os.Stat(path)
	if err == nil {
		var ours fs.FileInfo
		if ours, err = inherited.Stat(); err == nil && !os.SameFile(there, ours) {
			err = errors.New("it is not the file whose lock was inherited")
		}
	}
	if err == nil {
		err = filelock.Lock(inherited) // which it has, unless the other one has ended meanwhile
	}
	i := &Instance{lock: inherited, ended: make(chan struct{})}
	if err != nil {
		err = fmt.Errorf("lock file %q: %w", path, err)
	} else {
		err = i.listen(dir, name)
	}
	if err != nil {
		inherited.Close()
		return nil, err
	}
	return i, nil
}

// Lock is the file whose lock is held, for a process that is to Adopt it.
func (i *Instance) Lock() *os.File { return i.lock }

// HandOver lets go of the directory without giving it back: another process has adopted it. Requests that have come are
// still answered until Close.
func (i *Instance) HandOver() {
	if i.handed.CompareAndSwap(false, true) {
		i.listener.Close()
		i.lock.Close()
	}
}

// listen opens the socket and notes it in the lock file, whose lock is held. What others find there changes at the end
// and in one step each, so that one who hands over is found until then.
func (i *Instance) listen(dir, name string) (err error) {
	if i.socket, err = socketPath(dir, name, os.Getenv); err != nil {
		return err
	}
	next := strings.TrimSuffix(i.socket, ".sock") + ".next" // no longer, since sockets' paths must not be
	// The lock is ours, so a socket that is there has nobody behind it.
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing a socket that was left behind: %w", err)
	}
	i.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return fmt.Errorf("status socket: %w", err)
	}
	i.listener.SetUnlinkOnClose(false) // Close removes it while the lock is held
	text, err := json.Marshal(note{PID: os.Getpid(), Socket: i.socket})
	if err == nil {
		err = os.Chmod(next, 0o600)
	}
	if err == nil {
		err = os.Rename(next, i.socket)
	}
	text = append(text, '\n')
	if err == nil {
		_, err = i.lock.WriteAt(text, 0)
	}
	if err == nil {
		err = i.lock.Truncate(int64(len(text)))
	}
	if err != nil {
		i.listener.Close()
		os.Remove(next)
		return fmt.Errorf("status socket: %w", err)
	}
	return nil
}

// Handler is what the process says about itself and does when asked. Its functions are called from any goroutine.
type Handler struct {
	// Status returns what is answered, as JSON.
	Status func() any
	// Stop makes the process end. It must not wait for that.
	Stop func()
	// Upgrade, if not nil, has another process take this one's place and returns its pid once it serves. It may take as
	// long as that takes.
	Upgrade func() (pid int, err error)
	// Steer, if not nil, takes what was found of the network, as JSON, and returns what is answered, as JSON.
	Steer func(found []byte) (any, error)
	// Reload, if not nil, reads again what may have been changed since.
	Reload func() error
	// Portal, if not nil, takes what is asked of the way past the tunnel by which a person logs in to the network, as JSON, and
	// returns what is answered, as JSON. It may take as long as the network takes.
	Portal func(asked []byte) (any, error)
}

// maxAsked bounds what is read of a question: a line for each endpoint of an access key.
const maxAsked = 256 << 10

// upgraded is what POST /upgrade answers.
type upgraded struct {
	PID   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
}

// Serve answers until Close. It returns at once.
func (i *Instance) Serve(h Handler) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		text, err := json.Marshal(h.Status())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		h.Stop()
		select {
		case <-i.ended:
		case <-r.Context().Done():
		}
	})
	if h.Upgrade != nil {
		mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
			var answer upgraded
			var err error
			if answer.PID, err = h.Upgrade(); err != nil {
				answer.Error = err.Error()
			}
			json.NewEncoder(w).Encode(answer)
		})
	}
	if h.Reload != nil {
		mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
			if err := h.Reload(); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	for path, take := range map[string]func([]byte) (any, error){"/steer": h.Steer, "/portal": h.Portal} {
		if take == nil {
			continue
		}
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			asked, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAsked))
			var answer any
			if err == nil {
				answer, err = take(asked)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			json.NewEncoder(w).Encode(answer)
		})
	}
	i.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10,
	}
	i.serving.Go(func() { i.server.Serve(&limited{UnixListener: i.listener, slots: make(chan struct{}, maxAskers)}) })
}

// Close gives the directory back. Whoever asked to stop is told last, when another process may already Take it.
func (i *Instance) Close() error {
	i.once.Do(func() {
		if i.handed.CompareAndSwap(false, true) {
			i.listener.Close()
			i.err = errors.Join(ignoreAbsent(os.Remove(i.socket)), i.lock.Truncate(0), i.lock.Close())
		}
		close(i.ended)
		if i.server != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if i.server.Shutdown(ctx) != nil {
				i.server.Close()
			}
		}
		i.serving.Wait()
	})
	return i.err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maxAskers is how many connections are answered at once: a person, a script or two, a watcher.
const maxAskers = 32

// limited closes further connections while too many are open.
type limited struct {
	*net.UnixListener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.UnixListener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &counted{Conn: c, leave: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			c.Close()
		}
	}
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}
