package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bbr is what became of the attempt to let programs use BBR.
type bbr struct {
	// Allowed says whether a program without privileges may use it.
	Allowed bool `json:"allowed"`
	// Changed says whether anything was changed for that.
	Changed bool   `json:"changed"`
	Note    string `json:"note"`
}

// sendBuffer is what became of the attempt to let a connection hold what a long path does.
type sendBuffer struct {
	// Bytes is what a program without privileges may ask for; 0 if unknown.
	Bytes   int    `json:"bytes"`
	Changed bool   `json:"changed"`
	Note    string `json:"note"`
}

// peers is what became of the attempt to have the kernel forget whom it was connected with.
type peers struct {
	// Forgotten says whether it does.
	Forgotten bool   `json:"forgotten"`
	Changed   bool   `json:"changed"`
	Note      string `json:"note"`
}

// kernel is what init looks at and changes of the machine's.
type kernel struct {
	linux, root bool
	sysctls     string // the directory of net's
	load        func(ctx context.Context, module string) error
}

func thisKernel() kernel {
	return kernel{
		linux: runtime.GOOS == "linux", root: os.Geteuid() == 0, sysctls: "/proc/sys/net",
		load: func(ctx context.Context, module string) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			path, err := exec.LookPath("modprobe")
			if err != nil {
				path = "/sbin/modprobe" // not in everyone's PATH
			}
			out, err := exec.CommandContext(ctx, path, module).CombinedOutput()
			if line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n")); err != nil && len(line) > 0 {
				return fmt.Errorf("%w: %s", err, line)
			}
			return err
		},
	}
}

// allowBBR loads the kernel's BBR and allows programs to use it, as far as that is possible here. It lasts until the
// machine starts again: whoever installs Godwit as a service makes it last.
func allowBBR(ctx context.Context, k kernel) bbr {
	if !k.linux {
		return bbr{Note: "BBR is for Linux gateways only: the system's congestion control is used"}
	}
	allowedFile := filepath.Join(k.sysctls, "ipv4/tcp_allowed_congestion_control")
	allowed, err := words(allowedFile)
	switch {
	case err != nil:
		return bbr{Note: "this container cannot tell whether BBR is allowed: load and allow it on its host"}
	case slices.Contains(allowed, "bbr"):
		return bbr{Allowed: true, Note: "BBR is allowed"}
	case !k.root:
		return bbr{Note: "BBR is not allowed for programs, which costs speed on lossy paths: run init as root to allow it"}
	}
	availableFile := filepath.Join(k.sysctls, "ipv4/tcp_available_congestion_control")
	var loadErr error
	if available, _ := words(availableFile); !slices.Contains(available, "bbr") {
		loadErr = k.load(ctx, "tcp_bbr")
		if available, _ = words(availableFile); !slices.Contains(available, "bbr") {
			note := "this kernel has no BBR, which costs speed on lossy paths"
			if loadErr != nil {
				note += fmt.Sprintf(" (loading tcp_bbr: %v)", loadErr)
			}
			return bbr{Note: note}
		}
	}
	if err := os.WriteFile(allowedFile, []byte(strings.Join(append(allowed, "bbr"), " ")+"\n"), 0); err != nil {
		return bbr{Note: fmt.Sprintf("BBR could not be allowed, which costs speed on lossy paths: %v", err)}
	}
	return bbr{Allowed: true, Changed: true, Note: "BBR is loaded and allowed, until the machine starts again"}
}

// wantSendBuffer is what links ask for (see internal/transports/https): twice as much is then had.
const wantSendBuffer = 16 << 20

// allowSendBuffer lets programs ask for large send buffers, as far as that is possible here, until the machine starts
// again. Links use one once they know that their path holds as much.
func allowSendBuffer(k kernel) sendBuffer {
	if !k.linux {
		return sendBuffer{Note: "the system's own"}
	}
	file := filepath.Join(k.sysctls, "core/wmem_max")
	now, err := words(file)
	if err != nil || len(now) != 1 {
		return sendBuffer{Note: "this container cannot tell how much a connection may hold"}
	}
	n, err := strconv.Atoi(now[0])
	switch {
	case err != nil:
		return sendBuffer{Note: fmt.Sprintf("the kernel says %q", now[0])}
	case n >= wantSendBuffer:
		return sendBuffer{Bytes: n, Note: fmt.Sprintf("a connection may hold %s", size(uint64(n)))}
	case !k.root:
		return sendBuffer{Bytes: n, Note: fmt.Sprintf("a connection may hold %s, which costs speed on long paths: run init "+
			"as root to allow more", size(uint64(n)))}
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(wantSendBuffer)+"\n"), 0); err != nil {
		return sendBuffer{Bytes: n, Note: fmt.Sprintf("more than %s for a connection could not be allowed, which costs "+
			"speed on long paths: %v", size(uint64(n)), err)}
	}
	return sendBuffer{Bytes: wantSendBuffer, Changed: true,
		Note: fmt.Sprintf("a connection may hold %s, until the machine starts again", size(wantSendBuffer))}
}

// forgetPeers keeps the kernel from remembering the addresses of those that connections were with, users and
// destinations, until the machine starts again. By default Linux does, to begin the next one faster (tcp_metrics).
func forgetPeers(k kernel) peers {
	if !k.linux {
		return peers{Note: "the system's own"}
	}
	file := filepath.Join(k.sysctls, "ipv4/tcp_no_metrics_save") // of IPv6, too
	now, err := words(file)
	switch {
	case err != nil || len(now) != 1:
		return peers{Note: "this container cannot tell whether the kernel remembers addresses: set " +
			"net.ipv4.tcp_no_metrics_save=1 on its host"}
	case now[0] != "0":
		return peers{Forgotten: true, Note: "the kernel does not remember their addresses"}
	case !k.root:
		return peers{Note: "the kernel remembers the addresses of users and destinations: run init as root to stop that"}
	}
	if err := os.WriteFile(file, []byte("1\n"), 0); err != nil {
		return peers{Note: fmt.Sprintf("the kernel remembers the addresses of users and destinations, which could not be "+
			"stopped: %v", err)}
	}
	return peers{Forgotten: true, Changed: true,
		Note: "the kernel does not remember their addresses, until the machine starts again"}
}

func words(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	return strings.Fields(string(b)), err
}
