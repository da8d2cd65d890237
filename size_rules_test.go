package triggerd_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checkPackages holds the rules over whole packages.
func checkPackages(files []source) []string {
	first, commented := map[string]string{}, map[string]bool{}
	for _, file := range files {
		if file.isTest() {
			continue
		}
		dir := path.Dir(file.path)
		if first[dir] == "" {
			first[dir] = file.path
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file.path, file.text, parser.PackageClauseOnly|parser.ParseComments)
		if err == nil && syntax.Doc.Text() != "" {
			commented[dir] = true
		}
	}
	var found []string
	for dir, file := range first {
		if !commented[dir] {
			found = append(found, fmt.Sprintf("%s:1: package comments of %s: 0, limit at least 1", file, dir))
		}
	}
	if len(first) > maxPackages {
		found = append(found, fmt.Sprintf("go.mod:1: packages of the project: %d, limit %d", len(first), maxPackages))
	}
	slices.Sort(found)
	return found
}

// checker gathers what is wrong with one file.
type checker struct {
	source
	set    *token.FileSet
	syntax *ast.File
	found  []string
}

// checkFile holds the rules over one file and names each offence with its
// place, its figure and the limit.
func checkFile(file source) []string {
	c := &checker{source: file, set: token.NewFileSet()}
	var err error
	c.syntax, err = parser.ParseFile(c.set, file.path, file.text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	c.checkMarks()
	c.checkNames()
	if c.isTest() {
		return c.found
	}
	c.report(c.syntax.FileEnd-1, "lines of the file", strings.Count(file.text, "\n"), maxFileLines)
	for _, decl := range c.syntax.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			c.checkFunc(decl)
		case *ast.GenDecl:
			c.checkVars(decl)
		}
	}
	c.checkTypes()
	return c.found
}

func (c *checker) line(pos token.Pos) int { return c.set.PositionFor(pos, false).Line }

// report notes an offence at a place if a figure is over its limit.
func (c *checker) report(pos token.Pos, what string, figure, limit int) {
	if figure > limit {
		c.found = append(c.found, fmt.Sprintf("%s:%d: %s: %d, limit %d", c.path, c.line(pos), what, figure, limit))
	}
}

// checkMarks finds notes of unfinished work, in tests too.
func (c *checker) checkMarks() {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for _, group := range c.syntax.Comments {
		for _, comment := range group.List {
			c.report(comment.Pos(), "marks of unfinished work", len(marks.FindAllString(comment.Text, -1)), 0)
		}
	}
}

// checkNames finds uses, as calls or as values, of functions that have no
// place here: sleeping and skipping anywhere, the clock and new contexts
// outside of cmd and of what is for tests alone.
func (c *checker) checkNames() {
	imports := map[string]string{} // by the name in this file
	for _, spec := range c.syntax.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			c.report(spec.Pos(), "imports into the file's own names", 1, 0)
		}
		imports[name] = imported
	}
	banned := []string{"time.Sleep"}
	if !c.isTest() && !strings.HasPrefix(c.path, "cmd/") && path.Dir(c.path) != storetest && path.Dir(c.path) != client {
		banned = append(banned, "time.Now", "time.Since", "time.Until", "context.Background", "context.TODO")
	}
	_, tests := imports["testing"]
	ast.Inspect(c.syntax, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name := selector.Sel.Name
		if x, ok := selector.X.(*ast.Ident); ok && slices.Contains(banned, imports[x.Name]+"."+name) {
			c.report(node.Pos(), "uses of "+imports[x.Name]+"."+name, 1, 0)
		}
		if (tests || c.isTest()) && (name == "Skip" || name == "Skipf" || name == "SkipNow") {
			c.report(node.Pos(), "uses of "+types.ExprString(selector), 1, 0)
		}
		return true
	})
}

func (c *checker) checkFunc(decl *ast.FuncDecl) {
	name, params := decl.Name.Name, decl.Type.Params.NumFields()
	if decl.Recv == nil {
		if name == "init" {
			c.report(decl.Pos(), "init functions", 1, 0)
		}
		if isConstructor(name) {
			c.report(decl.Pos(), "parameters of constructor "+name, params, maxConstructorParams)
		}
	}
	c.report(decl.Pos(), "lines of function "+name, c.line(decl.End())-c.line(decl.Pos())+1, maxFuncLines)
	c.report(decl.Pos(), "cyclomatic complexity of function "+name, complexity(decl), maxComplexity)
	c.report(decl.Pos(), "parameters of function "+name, params, maxParams)
}

// isConstructor reports whether a function's name is New, Open, or begins so.
func isConstructor(name string) bool {
	return regexp.MustCompile(`^(New|Open)(\P{Ll}|$)`).MatchString(name)
}

// complexity is McCabe's: 1 and the number of branches, those of function
// literals within included.
func complexity(decl *ast.FuncDecl) int {
	n := 1
	ast.Inspect(decl, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// checkTypes holds interfaces and function literals, wherever they stand.
func (c *checker) checkTypes() {
	ast.Inspect(c.syntax, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.TypeSpec:
			return !slices.Contains(allowedInterfaces(), c.path+": "+node.Name.Name)
		case *ast.InterfaceType:
			c.report(node.Pos(), "methods of an interface", node.Methods.NumFields(), maxMethods)
		case *ast.FuncLit:
			c.report(node.Pos(), "parameters of a function literal", node.Type.Params.NumFields(), maxParams)
		}
		return true
	})
}

// checkVars refuses package-level variables, but for those that never change.
func (c *checker) checkVars(decl *ast.GenDecl) {
	if decl.Tok != token.VAR || isEmbed(decl.Doc) {
		return
	}
	for _, spec := range decl.Specs {
		spec := spec.(*ast.ValueSpec)
		if isEmbed(spec.Doc) || spec.Type != nil && types.ExprString(spec.Type) == "embed.FS" {
			continue
		}
		for i, name := range spec.Names {
			fixed := len(spec.Values) == len(spec.Names) && isFixed(spec.Values[i])
			assertion := name.Name == "_" && spec.Type != nil && spec.Values != nil
			if !fixed && !assertion && !slices.Contains(allowedVars(), c.path+": "+name.Name) {
				c.report(name.Pos(), "package-level variables named "+name.Name, 1, 0)
			}
		}
	}
}

func isEmbed(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(comment *ast.Comment) bool {
		return strings.HasPrefix(comment.Text, "//go:embed ")
	})
}

// isFixed reports whether a variable's value is an error or a pattern.
func isFixed(value ast.Expr) bool {
	switch value := value.(type) {
	case *ast.CallExpr:
		return slices.Contains([]string{
			"errors.New", "fmt.Errorf", "trigger.Errorf", "Errorf", "trigger.NewUnavailable", "NewUnavailable",
			"regexp.MustCompile",
		}, types.ExprString(value.Fun))
	case *ast.UnaryExpr:
		literal, ok := value.X.(*ast.CompositeLit)
		return ok && value.Op == token.AND && slices.Contains([]string{"trigger.Error", "Error"}, types.ExprString(literal.Type))
	}
	return false
}
