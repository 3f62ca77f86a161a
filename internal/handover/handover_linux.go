package handover

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors of a successor; sockets follow.
const (
	readyFD = 3 + iota
	stderrFD
	lockFD
	firstSocketFD
)

const readyLine = "ready\n"

// startTimeout is how long a successor may take: it opens a database that may have to be brought up to date.
const startTimeout = time.Minute

// maxSockets bounds the list.
const maxSockets = 256

func (p *Process) inherit(list string) error {
	var names []string
	if err := json.Unmarshal([]byte(list), &names); err != nil || len(names) > maxSockets {
		return fmt.Errorf("%s: %q is not a list of sockets", variable, list)
	}
	file := func(fd int, name string) (*os.File, error) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("descriptor %d (%s): %w", fd, name, err)
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	var errs [3]error
	p.ready, errs[0] = file(readyFD, "ready")
	p.stderr, errs[1] = file(stderrFD, "stderr")
	p.lock, errs[2] = file(lockFD, "lock")
	err := errors.Join(errs[:]...)
	for i, name := range names {
		f, ferr := file(firstSocketFD+i, name)
		if ferr != nil {
			err = errors.Join(err, ferr)
			continue
		}
		l, lerr := net.FileListener(f)
		f.Close()
		if lerr != nil {
			err = errors.Join(err, fmt.Errorf("socket %q: %w", name, lerr))
			continue
		}
		p.inherited = append(p.inherited, socket{name, l})
	}
	if err != nil {
		p.Close()
	}
	return err
}

func (p *Process) tellReady() error {
	// Up to here the predecessor listened to what went wrong.
	if err := unix.Dup3(int(p.stderr.Fd()), 2, 0); err != nil {
		return fmt.Errorf("standard error: %w", err)
	}
	p.stderr.Close()
	p.stderr = nil
	if _, err := p.ready.WriteString(readyLine); err != nil {
		return fmt.Errorf("telling the running process: %w", err)
	}
	return nil
}

// Successor starts one, with lock, and returns when it is ready. An error is a *FailedError, or nothing was started.
func (p *Process) Successor(ctx context.Context, lock *os.File) (*Successor, error) {
	return p.start(ctx, p.path, "", lock, os.Stderr)
}

// thisProgram is the program of this process, whatever lies at its path now, and if nothing does.
const thisProgram = "/proc/self/exe"

// Again is Successor, but for the program: it is the one that runs here, and learns memo, which other processes of the
// user may see. What it says before it is ready is told by an error only.
func (p *Process) Again(ctx context.Context, memo string, lock *os.File) (*Successor, error) {
	return p.start(ctx, thisProgram, memo, lock, io.Discard)
}

func (p *Process) start(ctx context.Context, path, memo string, lock *os.File, hears io.Writer) (*Successor, error) {
	names, files, err := p.descriptors()
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	readyOut, readyIn, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyOut.Close()
	errOut, errIn, err := os.Pipe()
	if err != nil {
		readyIn.Close()
		return nil, err
	}
	cmd := exec.Command(path, p.args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), variable+"="+string(list))
	if memo != "" {
		cmd.Env = append(cmd.Env, memoVariable+"="+memo)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, errIn
	cmd.ExtraFiles = append([]*os.File{readyIn, os.Stderr, lock}, files...)
	if p.first {
		// Those that follow are one group, which signals can be passed on to, and stay below this process.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	if err == nil {
		err = cmd.Start()
	}
	readyIn.Close()
	errIn.Close()
	if err != nil {
		errOut.Close()
		return nil, &FailedError{Err: err}
	}
	var said tail
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		defer errOut.Close()
		io.Copy(io.MultiWriter(&said, hears), errOut)
	}()
	ended := make(chan error, 1) // nobody has to wait for it
	readyOut.SetReadDeadline(time.Now().Add(startTimeout))
	stop := context.AfterFunc(ctx, func() { readyOut.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(readyOut, int64(len(readyLine)))).ReadString('\n')
	if line == readyLine {
		go func() { ended <- cmd.Wait() }()
		s := &Successor{PID: cmd.Process.Pid, Ended: ended}
		p.mu.Lock()
		p.successor = s
		p.mu.Unlock()
		return s, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("it was not ready within %v", startTimeout)
	} else {
		err = nil // it closed the pipe: it has ended, or is about to
		kill := time.AfterFunc(time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
	}
	if err != nil {
		cmd.Process.Kill()
	}
	if waitErr := cmd.Wait(); err == nil {
		if err = waitErr; err == nil {
			err = errors.New("it ended without a word")
		}
	}
	errOut.SetReadDeadline(time.Now().Add(time.Second)) // a grandchild may hold the other end
	<-listened
	return nil, &FailedError{Said: said.String(), Err: err}
}

// Follow turns this process, if it is the first and has been followed, into one that does nothing but wait: see Waits.
// Nothing that it held in memory is left. If end is set those that followed are asked to end. It returns if there is
// nothing to wait for.
func (p *Process) Follow(end bool) error {
	p.mu.Lock()
	s := p.successor
	p.mu.Unlock()
	if s == nil || !p.first {
		return nil
	}
	if end {
		unix.Kill(-s.PID, unix.SIGTERM)
	}
	err := unix.Exec(thisProgram, os.Args, append(os.Environ(), waitVariable+"="+strconv.Itoa(s.PID)))
	return fmt.Errorf("waiting for process %d, which serves now: %w", s.PID, err)
}

// Waits reports whether this process is there to wait only, and then has done so: it has passed on signals until the
// last process of those that followed had ended, and code is how. Call it before anything else.
func Waits() (code int, yes bool) {
	group, err := strconv.Atoi(os.Getenv(waitVariable))
	waits := err == nil && group > 1
	if _, succeeds := os.LookupEnv(variable); succeeds || waits {
		// Started as what runs, it is called "exe", which nobody would find.
		os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	}
	if !waits {
		return 0, false
	}
	heard := make(chan os.Signal, 8) // signal.Notify does not wait; so many may come at once
	signal.Notify(heard, unix.SIGINT, unix.SIGTERM)
	if !signal.Ignored(unix.SIGHUP) {
		signal.Notify(heard, unix.SIGHUP)
	}
	go func() {
		for s := range heard {
			unix.Kill(-group, s.(unix.Signal))
		}
	}()
	for {
		var how unix.WaitStatus
		switch _, err := unix.Wait4(-1, &how, 0, nil); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return code, true
		case how.Signaled():
			code = 128 + int(how.Signal())
		default:
			code = how.ExitStatus()
		}
	}
}

// descriptors are the sockets to pass on. The caller closes them.
func (p *Process) descriptors() (names []string, files []*os.File, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.open {
		raw, err := s.l.(syscall.Conn).SyscallConn()
		if err != nil {
			continue // it is closed
		}
		// Not File: a descriptor from there becomes blocking when it is passed on, and with it the socket we accept on.
		var fd int
		var dupErr error
		err = raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
		if err != nil {
			continue
		}
		if dupErr != nil {
			return names, files, fmt.Errorf("passing on the socket for %s: %w", s.name, dupErr)
		}
		names, files = append(names, s.name), append(files, os.NewFile(uintptr(fd), s.name))
	}
	return names, files, nil
}
