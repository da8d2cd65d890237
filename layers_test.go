package triggerd_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "triggerd"

// layers is the direction of the imports: a package may import those of the
// lower layers, never one of its own layer or above.
func layers() [][]string {
	return [][]string{
		{"cmd/triggerd", "cmd/bench"},
		{"internal/api", "internal/dash"},
		{"internal/ingest", "internal/deliver", "internal/limit"},
		{"internal/store"},
		{"internal/trigger"},
	}
}

// These stand beside the layers, with rules of their own in mayImport.
const (
	bottom    = "internal/trigger"
	store     = "internal/store"
	storetest = "internal/store/storetest"
	telemetry = "internal/telemetry"
	fair      = "internal/fair"
	client    = "client"
	torture   = "internal/torture" // knows the server by its program and API alone
	bench     = "cmd/bench"        // fills databases, counts what is in them, and has a yardstick beside the server
)

// layerOf is the layer of a package from the top, from 0; -1 if it is in none.
func layerOf(pkg string) int {
	return slices.IndexFunc(layers(), func(layer []string) bool { return slices.Contains(layer, pkg) })
}

// inTable reports whether a package, named by its folder, has its place.
func inTable(pkg string) bool {
	return layerOf(pkg) >= 0 || slices.Contains([]string{storetest, telemetry, fair, client, torture}, pkg)
}

// mayImport says whether one of our packages may import another of ours.
func mayImport(from, to string) bool {
	switch {
	case to == storetest:
		return false // tests only
	case from == bottom || from == telemetry || from == fair || from == client || from == torture:
		return false
	case to == telemetry || to == fair:
		return true
	case to == client || to == torture:
		return layerOf(from) == 0
	case from == storetest:
		return to == store || to == bottom
	}
	return layerOf(from) < layerOf(to)
}

// judgeImport says what is wrong with an import in a file that is no test,
// "" if nothing is. from is a folder of the module, imported an import path.
func judgeImport(from, imported string) string {
	to, ours := strings.CutPrefix(imported, module+"/")
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case !inTable(from):
		return "package " + from + " is not in the table of layers_test.go: add it deliberately, in its layer"
	case ours && !inTable(to):
		return "package " + to + " is not in the table of layers_test.go: add it deliberately, in its layer"
	case ours && !mayImport(from, to):
		return from + " must not import " + to
	case !ours && from == bottom && strings.Contains(first, "."):
		return from + " imports the standard library alone, not " + imported
	case !ours && isSQL(imported) && from != store && from != storetest && from != bench:
		return "only " + store + " speaks SQL: " + from + " must not import " + imported
	}
	return ""
}

// isSQL reports whether an import path is of a database driver, or of the
// package that drives them.
func isSQL(imported string) bool {
	drivers := []string{"database/sql", "github.com/jackc", "modernc.org/sqlite", "github.com/mattn/go-sqlite3", "github.com/lib/pq"}
	return slices.ContainsFunc(drivers, func(driver string) bool {
		return imported == driver || strings.HasPrefix(imported, driver+"/")
	})
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	for _, file := range projectFiles(t) {
		if file.isTest() {
			continue
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, file.path, file.text, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			continue
		}
		pkg := path.Dir(file.path)
		if !inTable(pkg) {
			t.Errorf("%s: %s", file.path, judgeImport(pkg, ""))
		}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Errorf("%s: %v", set.Position(spec.Pos()), err)
			}
			if wrong := judgeImport(pkg, imported); wrong != "" && inTable(pkg) {
				t.Errorf("%s: %s", set.Position(spec.Pos()), wrong)
			}
		}
	}
}

func TestJudgeImport(t *testing.T) {
	t.Parallel()
	tests := []struct {
		from, imported string
		allowed        bool
	}{
		{"cmd/triggerd", "triggerd/internal/api", true},
		{"cmd/triggerd", "triggerd/internal/trigger", true},
		{"cmd/triggerd", "triggerd/client", true},
		{"cmd/triggerd", "triggerd/internal/telemetry", true},
		{"cmd/triggerd", "github.com/alecthomas/kong", true},
		{"cmd/triggerd", "github.com/jackc/pgx/v5", false},
		{"cmd/bench", "triggerd/internal/torture", true},
		{"cmd/bench", "triggerd/internal/store", true},
		{"cmd/bench", "triggerd/cmd/triggerd", false},
		{"cmd/bench", "github.com/jackc/pgx/v5", true},
		{"internal/api", "triggerd/internal/ingest", true},
		{"internal/api", "triggerd/internal/dash", false},
		{"internal/api", "triggerd/client", false},
		{"internal/api", "triggerd/cmd/triggerd", false},
		{"internal/dash", "triggerd/internal/api", false},
		{"internal/ingest", "triggerd/internal/store", true},
		{"internal/ingest", "triggerd/internal/deliver", false},
		{"internal/ingest", "triggerd/internal/store/storetest", false},
		{"internal/deliver", "triggerd/internal/api", false},
		{"internal/deliver", "database/sql", false},
		{"internal/limit", "triggerd/internal/ingest", false},
		{"internal/limit", "database/sql/driver", false},
		{"internal/store", "triggerd/internal/trigger", true},
		{"internal/store", "triggerd/internal/limit", false},
		{"internal/store", "triggerd/internal/store/storetest", false},
		{"internal/store", "github.com/jackc/pgx/v5/pgxpool", true},
		{"internal/store", "modernc.org/sqlite", true},
		{"internal/store/storetest", "triggerd/internal/store", true},
		{"internal/store/storetest", "triggerd/internal/trigger", true},
		{"internal/store/storetest", "triggerd/internal/telemetry", true},
		{"internal/store/storetest", "triggerd/internal/ingest", false},
		{"internal/trigger", "net/url", true},
		{"internal/trigger", "triggerd/internal/telemetry", false},
		{"internal/trigger", "triggerd/internal/store", false},
		{"internal/trigger", "golang.org/x/text/width", false},
		{"internal/telemetry", "triggerd/internal/trigger", false},
		{"internal/telemetry", "github.com/prometheus/client_golang/prometheus", true},
		{"client", "net/http", true},
		{"client", "triggerd/internal/trigger", false},
		{"client", "triggerd/internal/telemetry", false},
		{"internal/util", "strings", false},
		{"cmd/other", "strings", false},
		{".", "strings", false},
		{"internal/api", "triggerd/internal/util", false},
	}
	for _, tt := range tests {
		if got := judgeImport(tt.from, tt.imported); (got == "") != tt.allowed {
			t.Errorf("%s imports %s: %q, want it allowed: %v", tt.from, tt.imported, got, tt.allowed)
		}
	}
}

// source is a Go file of the project, its path relative to the root.
type source struct{ path, text string }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// projectFiles reads all Go files of the project, tests included, and leaves
// out the folders that the go command leaves out.
func projectFiles(t *testing.T) []source {
	t.Helper()
	var files []source
	root := os.DirFS(".")
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if name != "." && entry.IsDir() && (base[0] == '.' || base[0] == '_' || base == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		files = append(files, source{name, string(text)})
		return err
	})
	if err != nil || len(files) < 10 {
		t.Fatalf("%d Go files found: %v", len(files), err)
	}
	return files
}
