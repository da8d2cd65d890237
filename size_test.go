package triggerd_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The limits of the project's style; size_rules_test.go holds files to them.
const (
	maxFileLines         = 400
	maxFuncLines         = 70
	maxComplexity        = 15
	maxParams            = 6
	maxConstructorParams = 4
	maxMethods           = 5
	maxPackages          = 14
)

// allowedVars are package-level variables, as "path: name", that are neither
// errors nor embedded files, patterns or assertions. Each needs a reason.
func allowedVars() []string {
	return []string{"cmd/triggerd/main.go: version"} // the linker sets it
}

// allowedInterfaces may have more methods, as "path: name". Each needs a
// reason.
func allowedInterfaces() []string {
	return []string{"internal/store/store.go: dialect"} // the one seam between the two databases
}

func TestSizes(t *testing.T) {
	t.Parallel()
	files := projectFiles(t)
	for _, file := range files {
		for _, finding := range checkFile(file) {
			t.Error(finding)
		}
	}
	for _, finding := range checkPackages(files) {
		t.Error(finding)
	}
}

// repeat joins n lines of Go, each ended.
func repeat(n int, line string) string { return strings.Repeat(line+"\n", n) }

// function is one of n lines and complexity 1.
func function(n int) string { return "func f() {\n" + repeat(n-2, "g()") + "}\n" }

func use(line int, name string) string { return fmt.Sprintf("%d: uses of %s: 1, limit 0", line, name) }

func variable(name string) string {
	return "2: package-level variables named " + name + ": 1, limit 0"
}

const complexity16 = "2: cyclomatic complexity of function f: 16, limit 15"

// fixedVars are all the kinds of variables that may stand in a package.
const fixedVars = `import "embed"
var a = errors.New("a")
var b, c = fmt.Errorf("b"), trigger.Errorf(1, "c")
var (
	d = &trigger.Error{Kind: 1}
	e = regexp.MustCompile("e")
)
//go:embed f.txt
var f string
var (
	//go:embed g
	g []byte
	h embed.FS
)
var _ I = T{}
var _ J = (*T)(nil)
const k = 1
`

// TestPlantedOffences shows that each rule catches what it is for, at the
// right place, and lets pass what is just within.
func TestPlantedOffences(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, path, body string // body follows "package p"
		want             string // one finding, without the path; "": none
	}{
		{"syntax", "a.go", "func {", "2:6: expected 'IDENT', found '{'"},
		{"400 lines", "a.go", repeat(399, "//"), ""},
		{"401 lines", "a.go", repeat(400, "//"), "401: lines of the file: 401, limit 400"},
		{"401 lines of tests", "a_test.go", repeat(400, "//"), ""},
		{"70 lines", "a.go", function(70), ""},
		{"71 lines", "a.go", function(71), "2: lines of function f: 71, limit 70"},
		{"71 lines of method", "a.go", "\n" + strings.Replace(function(71), "f()", "(t *T) m()", 1), "3: lines of function m: 71, limit 70"},
		{"71 lines of test", "a_test.go", function(71), ""},
		{"complexity 15", "a.go", "func f() {\n" + repeat(14, "if a { g() }") + "}\n", ""},
		{"16 by if", "a.go", "func f() {\n" + repeat(15, "if a { g() }") + "}\n", complexity16},
		{"16 by for", "a.go", "func f() {\n" + repeat(15, "for a { g() }") + "}\n", complexity16},
		{"16 by range", "a.go", "func f() {\n" + repeat(15, "for range a { g() }") + "}\n", complexity16},
		{"16 by case", "a.go", "func f() {\nswitch a {\n" + repeat(15, "case 1, 2:") + "default:\n}\n}\n", complexity16},
		{"16 by select", "a.go", "func f() {\nselect {\n" + repeat(15, "case <-a:") + "default:\n}\n}\n", complexity16},
		{"16 by operators", "a.go", "func f() bool { return a" + strings.Repeat(" && b || c", 7) + " && d }\n", complexity16},
		{"16 within a literal", "a.go", "func f() { _ = func() {\n" + repeat(15, "if a { g() }") + "} }\n", complexity16},
		{"6 parameters", "a.go", "func f(a, b int, c, d, e, g string) {}\n", ""},
		{"7 parameters", "a.go", "func (t *T) f(a, b int, c, d, e, g, h string) {}\n", "2: parameters of function f: 7, limit 6"},
		{"7 without names", "a.go", "func f(int, int, int, int, int, int, int)\n", "2: parameters of function f: 7, limit 6"},
		{"7 of a literal", "a.go", "func f() { _ = func(a, b, c, d, e, f, g int) {} }\n", "2: parameters of a function literal: 7, limit 6"},
		{"4 of a constructor", "a.go", "func NewT(a, b, c, d int) {}\nfunc Opener(a, b, c, d, e int) {}\n", ""},
		{"5 of New", "a.go", "func New(a, b, c, d, e int) {}\n", "2: parameters of constructor New: 5, limit 4"},
		{"5 of OpenT", "a.go", "func OpenT(a, b, c, d, e int) {}\n", "2: parameters of constructor OpenT: 5, limit 4"},
		{"init", "a.go", "func init() {}\n", "2: init functions: 1, limit 0"},
		{"init method", "a.go", "func (t *T) init() {}\n", ""},
		{"5 methods", "a.go", "type i interface { a(); b(); c(); d(); E }\n", ""},
		{"6 methods", "a.go", "type i interface { a(); b(); c(); d(); e(); F }\n", "2: methods of an interface: 6, limit 5"},
		{"fixed variables", "a.go", fixedVars, ""},
		{"variable", "a.go", "var a int\n", variable("a")},
		{"map", "a.go", "var a = map[string]int{}\n", variable("a")},
		{"among errors", "a.go", "var (\n\te = errors.New(\"\")\n\tm sync.Mutex\n)\n", "4: package-level variables named m: 1, limit 0"},
		{"blank", "a.go", "var _ = register()\n", variable("_")},
		{"two of one call", "a.go", "var a, b = errors.New(\"\"), f()\n", variable("b")},
		{"variable of a function", "a.go", "func f() { var a int }\n", ""},
		{"variable of tests", "a_test.go", "var a int\n", ""},
		{"now", "a.go", "import \"time\"\nfunc f() { time.Now() }\n", use(3, "time.Now")},
		{"now as value", "a.go", "import \"time\"\nfunc f() { g(time.Now) }\n", use(3, "time.Now")},
		{"now renamed", "a.go", "import clock \"time\"\nfunc f() { clock.Now() }\n", use(3, "time.Now")},
		{"since", "a.go", "import \"time\"\nfunc f() { time.Since(a) }\n", use(3, "time.Since")},
		{"until", "a.go", "import \"time\"\nfunc f() { time.Until(a) }\n", use(3, "time.Until")},
		{"dot import", "a.go", "import . \"time\"\n", "2: imports into the file's own names: 1, limit 0"},
		{"now in cmd", "cmd/x/a.go", "import \"time\"\nfunc f() { time.Now() }\n", ""},
		{"now in tests", "a_test.go", "import \"time\"\nfunc f() { time.Now() }\n", ""},
		{"now in test helpers", storetest + "/a.go", "import \"time\"\nfunc f() { time.Now() }\n", ""},
		{"now in the store", "internal/store/a.go", "import \"time\"\nfunc f() { time.Now() }\n", use(3, "time.Now")},
		{"another's now", "a.go", "func f(s S) { s.Now(); time.Now() }\n", ""},
		{"background", "a.go", "import \"context\"\nfunc f() { context.Background() }\n", use(3, "context.Background")},
		{"to do", "a.go", "import \"context\"\nfunc f() { context.TODO() }\n", use(3, "context.TODO")},
		{"background in cmd", "cmd/x/a.go", "import \"context\"\nfunc f() { context.Background() }\n", ""},
		{"sleep", "cmd/x/a.go", "import \"time\"\nfunc f() { time.Sleep(1) }\n", use(3, "time.Sleep")},
		{"sleep in tests", "a_test.go", "import \"time\"\nfunc f() { go time.Sleep(1) }\n", use(3, "time.Sleep")},
		{"skip", "a_test.go", "func f(t *testing.T) { t.Skip() }\n", use(2, "t.Skip")},
		{"skip in benchmarks", "a_test.go", "func f(b *testing.B) { b.SkipNow() }\n", use(2, "b.SkipNow")},
		{"skip in helpers", "a.go", "import \"testing\"\nfunc f(t testing.TB) { t.Skipf(\"\") }\n", use(3, "t.Skipf")},
		{"another's skip", "a.go", "func f(r R) { r.Skip() }\n", ""},
		{"mark", "a.go", "// TO" + "DO: more\n", "2: marks of unfinished work: 1, limit 0"},
		{"marks in tests", "a_test.go", "func f() {} /* FIX" + "ME XX" + "X */\n", "2: marks of unfinished work: 2, limit 0"},
	}
	for _, tt := range tests {
		var want []string
		if tt.want != "" {
			want = []string{tt.path + ":" + tt.want}
		}
		got := checkFile(source{tt.path, "package p\n" + tt.body})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestPlantedPackages(t *testing.T) {
	t.Parallel()
	files := []source{
		{"a/a.go", "package a\n"},
		{"a/b.go", "// Package a is told here.\npackage a\n"},
		{"b/b.go", "//go:build linux\n\npackage b\n"},
		{"b/b_test.go", "// Package b is told in a test.\npackage b\n"},
		{"c/c_test.go", "package c\n"},
	}
	want := []string{"b/b.go:1: package comments of b: 0, limit at least 1"}
	if diff := cmp.Diff(want, checkPackages(files)); diff != "" {
		t.Error(diff)
	}
	files = nil
	for n := range maxPackages {
		files = append(files, source{fmt.Sprintf("p%d/p.go", n), "// Package p is one of many.\npackage p\n"})
	}
	if got := checkPackages(files); got != nil {
		t.Errorf("%d packages: %v", maxPackages, got)
	}
	want = []string{"go.mod:1: packages of the project: 15, limit 14"}
	files = append(files, source{"q/q.go", "// Package q is one too many.\npackage q\n"})
	if diff := cmp.Diff(want, checkPackages(files)); diff != "" {
		t.Error(diff)
	}
}
