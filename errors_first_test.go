package triggerd_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// errorsFirst are the packages that use the store: there, nothing that a call
// returns beside an error is used before the error is looked at.
func errorsFirst() []string {
	return []string{"internal/deliver", "internal/ingest", "internal/limit", "internal/store"}
}

// mayComeFirst are values, as "path: name", that say something beside an error,
// too. Each needs a reason.
func mayComeFirst() []string {
	return []string{
		"internal/deliver/sweep.go: expired",      // Store.Expire says how many have expired until it failed
		"internal/deliver/clockstep.go: n",        // Store.PullBack says how many it has moved until it failed
		"internal/store/pullback.go: moved",       // the same, of its parts
		"internal/store/pullback_times.go: moved", // the same
		"internal/store/clock.go: r",              // for how long it took, which is compared only without an error
	}
}

func TestErrorsFirst(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, file := range projectFiles(t) {
		if slices.Contains(errorsFirst(), path.Dir(file.path)) && !file.isTest() {
			seen++
			for _, finding := range valuesFirst(file) {
				t.Error(finding)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d files were looked at", seen)
	}
}

// valuesFirst finds what is used before the error that came with it: in the
// statements after x, err = f(), up to the first that has err, x comes first. To
// return both is no use.
func valuesFirst(file source) (found []string) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, file.path, file.text, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	look := func(list []ast.Stmt) {
		for i, stmt := range list {
			names := besideError(stmt)
			for _, rest := range list[i+1:] {
				if len(names) == 0 {
					break
				}
				failed := mention(rest, "err")
				for _, name := range names {
					used := mention(rest, name)
					_, returned := rest.(*ast.ReturnStmt)
					if used == token.NoPos || returned || failed != token.NoPos && failed < used {
						continue
					}
					if !slices.Contains(mayComeFirst(), file.path+": "+name) {
						found = append(found, fmt.Sprintf("%s:%d: %s is used before err is looked at", file.path, set.Position(used).Line, name))
					}
				}
				if failed != token.NoPos {
					break
				}
			}
		}
	}
	ast.Inspect(syntax, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.BlockStmt:
			look(node.List)
		case *ast.CaseClause:
			look(node.Body)
		case *ast.CommClause:
			look(node.Body)
		case *ast.IfStmt:
			if node.Init != nil {
				look([]ast.Stmt{node.Init, &ast.ExprStmt{X: node.Cond}, node.Body})
			}
		}
		return true
	})
	return found
}

// besideError are the variables that a statement sets together with err, by one
// call.
func besideError(stmt ast.Stmt) (names []string) {
	assign, ok := stmt.(*ast.AssignStmt)
	if !ok || len(assign.Lhs) < 2 || len(assign.Rhs) != 1 {
		return nil
	}
	if _, ok := assign.Rhs[0].(*ast.CallExpr); !ok {
		return nil
	}
	last := len(assign.Lhs) - 1
	if ident, ok := assign.Lhs[last].(*ast.Ident); !ok || ident.Name != "err" {
		return nil
	}
	for _, expr := range assign.Lhs[:last] {
		if ident, ok := expr.(*ast.Ident); ok && ident.Name != "_" {
			names = append(names, ident.Name)
		}
	}
	return names
}

// mention is where a variable is first named; no place: nowhere.
func mention(node ast.Node, name string) (first token.Pos) {
	ast.Inspect(node, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.SelectorExpr: // not the name of a field
			first = earlier(first, mention(node.X, name))
			return false
		case *ast.KeyValueExpr:
			first = earlier(first, mention(node.Value, name))
			return false
		case *ast.Ident:
			if node.Name == name {
				first = earlier(first, node.Pos())
			}
		}
		return true
	})
	return first
}

func earlier(a, b token.Pos) token.Pos {
	if a == token.NoPos || b != token.NoPos && b < a {
		return b
	}
	return a
}

// TestPlantedUses shows what is found and what is not.
func TestPlantedUses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body  string
		found bool
	}{
		{"x, err := f()\nif err != nil { return }\nuse(x)", false},
		{"x, err := f()\nuse(x)\nif err != nil { return }", true},
		{"x, err := f()\nlock()\nfor range x { g() }\nreturn err", true},
		{"x, err := f()\nif x || err != nil { return }", true},
		{"x, err := f()\nif err != nil || x { return }", false},
		{"x, err := f()\nreturn x, err", false},
		{"if x, err := f(); x && err == nil { g() }", true},
		{"if x, err := f(); err == nil { use(x) }", false},
		{"switch {\ncase a:\nx, err = f()\nuse(x)\n}", true},
		{"x, y, err := f()\nuse(y)\nuse(err)", true},
		{"_, err := f()\nuse(x)\nuse(err)", false},
		{"x, ok := f()\nuse(x)\nuse(ok)", false},
		{"x, err := f()\nuse(y.x, T{x: 1})\nuse(err, x)", false},
		{"go func() {\nx, err := f()\nuse(x, err)\n}()", true},
	} {
		file := source{path: "a.go", text: "package p\nfunc f() {\n" + test.body + "\n}\n"}
		if found := valuesFirst(file); (len(found) > 0) != test.found {
			t.Errorf("%s: found %s, want %v", strings.ReplaceAll(test.body, "\n", "; "), found, test.found)
		}
	}
}
