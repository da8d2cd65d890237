//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFolder locks the folder for this process until the file is closed or the
// process ends in any way.
func lockFolder(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data folder cannot be written, choose another with --data-dir: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another triggerd already uses the data folder %s: stop it, or choose another with --data-dir", filepath.Dir(file))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
