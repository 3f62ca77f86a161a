package coredump

import "golang.org/x/sys/unix"

// Off turns core dumps off for this process and, as far as the limit goes, for those it starts. From then on /proc shows
// what is private of it to root only, and debuggers cannot attach; what it starts is as open as ever.
func Off() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
