package triggerd_test

import (
	"path"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each package with tests fails if they leave a goroutine behind.
func TestPackagesAreCheckedForLeaks(t *testing.T) {
	t.Parallel()
	checked := map[string]bool{} // by folder
	for _, file := range projectFiles(t) {
		if file.isTest() {
			checked[path.Dir(file.path)] = checked[path.Dir(file.path)] || strings.Contains(file.text, "goleak.VerifyTestMain(m)")
		}
	}
	if len(checked) < 8 {
		t.Fatalf("only %d packages with tests are found", len(checked))
	}
	for folder, is := range checked {
		if !is {
			t.Errorf("the tests of %s do not end with goleak.VerifyTestMain", folder)
		}
	}
}
