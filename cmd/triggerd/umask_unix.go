//go:build unix

package main

import "syscall"

// keepPrivate makes the files that the program makes from now on its user's
// alone, whatever the umask is that it was started with.
func keepPrivate() { syscall.Umask(0o077) }
