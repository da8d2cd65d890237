//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isReplaced reports whether a file may stand for a descriptor that was closed
// when the program was started. In that case the Go runtime opens /dev/null for
// reading and writing, but a shell opens it only for writing. Some programs
// pass /dev/null to their children like the runtime does, so the result is not
// certain.
func isReplaced(file *os.File) bool {
	flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE != unix.O_RDWR {
		return false
	}
	null, nullErr := os.Stat(os.DevNull)
	info, err := file.Stat()
	return nullErr == nil && err == nil && os.SameFile(null, info)
}
