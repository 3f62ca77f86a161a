package hostnet

import (
	"errors"

	"golang.org/x/sys/windows"
)

// lives reports whether there is such a process.
func lives(pid int) bool {
	p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(p)
	const stillActive = 259
	var code uint32
	return windows.GetExitCodeProcess(p, &code) == nil && code == stillActive
}
