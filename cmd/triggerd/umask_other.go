//go:build !unix

package main

// keepPrivate does nothing, because this system has no umask.
func keepPrivate() {}
