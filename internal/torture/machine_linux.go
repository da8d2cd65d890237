package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// diskSize is the size of the small file system for the database, in bytes.
const diskSize = 1 << 30

// mountDisk mounts the small file system from a file, if that is allowed: a
// real one, on which a sync takes its time. Otherwise it sets noDisk to the
// reason.
func (r *run) mountDisk() error {
	dir, image := filepath.Join(r.Dir, "disk"), filepath.Join(r.Dir, "disk.image")
	if os.Geteuid() != 0 {
		r.noDisk = "it needs root, to mount a small file system"
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, diskSize); err != nil {
		return err
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			r.noDisk = fmt.Sprintf("%s: %v: %.200s", command[0], err, out)
			return nil
		}
	}
	r.disk = dir
	r.closers = append(r.closers, func() error {
		var err error
		if r.Keep || r.report.Broken() {
			err = os.CopyFS(filepath.Join(r.Dir, "data"), os.DirFS(dir))
		}
		return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
	})
	return nil
}

// fill creates a file that uses all free space.
func fill(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	at := int64(0)
	for size := int64(diskSize); size >= 512; {
		switch err := unix.Fallocate(int(file.Fd()), 0, at, size); {
		case err == nil:
			at += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		default:
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

// limitDescriptors limits a process to more descriptors than it has open; undo
// restores its limit.
func limitDescriptors(pid, more int) (undo func() error, err error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	var before unix.Rlimit
	limit := unix.Rlimit{Cur: uint64(len(open) + more)}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		return nil, err
	}
	limit.Max = before.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return nil, err
	}
	return func() error { return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil) }, nil
}

func lacksLimits(*run) string { return "" }

// childrenOf returns the child processes of a process.
func childrenOf(pid int) (children []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for field := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			children = append(children, child)
		}
	}
	return children
}
