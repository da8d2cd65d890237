//go:build !linux

package torture

import "errors"

// Faults that need Linux. The report lists them as lacking.

func (r *run) mountDisk() error {
	r.noDisk = "it needs Linux"
	return nil
}

func fill(string) error { return errors.ErrUnsupported }

func limitDescriptors(int, int) (undo func() error, err error) {
	return nil, errors.ErrUnsupported
}

func lacksLimits(*run) string { return "it needs Linux" }

func childrenOf(int) []int { return nil }
