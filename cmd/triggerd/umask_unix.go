//go:build unix

package main

import "syscall"

// keepPrivate makes new files readable only by their user, whatever the umask
// of the process was.
func keepPrivate() { syscall.Umask(0o077) }
