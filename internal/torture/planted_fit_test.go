//go:build plants

package torture_test

import (
	"os"
	"strings"
	"testing"
)

// Each planted bug changes a text that the sources have, once.
func TestPlantsFit(t *testing.T) {
	t.Parallel()
	for _, p := range plants() {
		for _, e := range p.edits {
			b, err := os.ReadFile("../../" + e.file)
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
				continue
			}
			if n := strings.Count(string(b), e.old); n != 1 {
				t.Errorf("%s: %s has %d times %q", p.name, e.file, n, e.old)
			}
		}
	}
}
