package triggerd_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The documents, which are to stay true. The settings in README.md are held by
// cmd/triggerd/docs_test.go, which knows them.
const (
	readme       = "README.md"
	architecture = "ARCHITECTURE.md"
	operations   = "docs/operations.md"
	apiGuide     = "docs/api.md"

	maxArchitectureLines = 150
)

// documents reads all of them, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := os.ReadDir("docs")
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{readme: "", architecture: ""}
	for _, entry := range names {
		if path.Ext(entry.Name()) == ".md" {
			docs["docs/"+entry.Name()] = ""
		}
	}
	for name := range docs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		docs[name] = string(text)
	}
	return docs
}

// syntaxOf parses a Go file of the project.
func syntaxOf(t *testing.T, file string) *ast.File {
	t.Helper()
	syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return syntax
}

// text is a string literal's value, "" if the expression is none.
func text(e ast.Expr) string {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	value, _ := strconv.Unquote(literal.Value)
	return value
}

// named gives the first arguments of all calls of functions with one of the
// names, where they are string literals.
func named(file *ast.File, functions ...string) (args []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		function := types.ExprString(call.Fun)
		function = function[strings.LastIndexByte(function, '.')+1:]
		if arg := text(call.Args[0]); slices.Contains(functions, function) && arg != "" {
			args = append(args, arg)
		}
		return true
	})
	return args
}

// missing names what stands in one list and not in the other.
func missing(from, in []string) (names []string) {
	for _, name := range from {
		if !slices.Contains(in, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// code gives what stands between backquotes in running text and tables.
func code(markdown string) (spans []string) {
	for _, match := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(prose(markdown), -1) {
		spans = append(spans, match[1])
	}
	return spans
}

// prose is a document without its blocks of code.
func prose(markdown string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(markdown, "")
}

func TestDocumentsHaveTheRoutes(t *testing.T) {
	t.Parallel()
	var routes []string
	ast.Inspect(syntaxOf(t, "internal/api/routes.go"), func(node ast.Node) bool {
		list, ok := node.(*ast.CompositeLit)
		if !ok || list.Type == nil || types.ExprString(list.Type) != "[]route" {
			return true
		}
		for _, element := range list.Elts {
			r := element.(*ast.CompositeLit)
			routes = append(routes, text(r.Elts[0])+" "+text(r.Elts[1]))
		}
		return false
	})
	if len(routes) < 60 {
		t.Fatalf("only these routes are found in the code: %q", routes)
	}
	rows := regexp.MustCompile("(?m)^\\| `([A-Z]+ /\\S+)` \\|")
	var told []string
	for _, document := range []string{readme, apiGuide} {
		for _, row := range rows.FindAllStringSubmatch(documents(t)[document], -1) {
			told = append(told, row[1])
		}
	}
	if names := missing(routes, told); names != nil {
		t.Errorf("%s and %s do not name the routes %q", readme, apiGuide, names)
	}
	if names := missing(told, routes); names != nil {
		t.Errorf("%s or %s name routes that are not there: %q", readme, apiGuide, names)
	}
}

func TestOperationsHasTheMetrics(t *testing.T) {
	t.Parallel()
	var metrics []string
	for _, file := range []string{"internal/telemetry/telemetry.go", "cmd/triggerd/serve.go"} {
		syntax := syntaxOf(t, file)
		for _, name := range named(syntax, "counter", "counters", "histogram", "Gauge", "Counter") {
			metrics = append(metrics, "triggerd_"+name)
		}
		ast.Inspect(syntax, func(node ast.Node) bool {
			if e, ok := node.(ast.Expr); ok && strings.HasPrefix(text(e), "triggerd_") && text(e) != "triggerd_" {
				metrics = append(metrics, text(e))
			}
			return true
		})
	}
	if len(metrics) < 16 {
		t.Fatalf("only these metrics are found in the code: %q", metrics)
	}
	docs := documents(t)
	rows := regexp.MustCompile("(?m)^\\| `(triggerd_[a-z_]+)` \\|")
	var told []string
	for _, row := range rows.FindAllStringSubmatch(docs[operations], -1) {
		told = append(told, row[1])
	}
	if names := missing(metrics, told); names != nil {
		t.Errorf("%s has no rows for the metrics %q", operations, names)
	}
	for name, doc := range docs {
		all := regexp.MustCompile(`triggerd_[a-z_]+[a-z]`).FindAllString(doc, -1)
		for i, metric := range all {
			all[i] = regexp.MustCompile(`_seconds_(count|sum|bucket)$`).ReplaceAllString(metric, "_seconds")
		}
		if names := missing(all, metrics); names != nil {
			t.Errorf("%s names metrics that are not there: %q", name, names)
		}
	}
}

func TestOperationsHasTheLogFields(t *testing.T) {
	t.Parallel()
	spans := code(documents(t)[operations])
	for _, file := range []string{"internal/api/api.go", "internal/deliver/record.go"} {
		fields := named(syntaxOf(t, file), "String", "Int", "Int64", "Duration")
		if len(fields) < 7 {
			t.Errorf("only these fields of the log are found in %s: %q", file, fields)
		}
		if names := missing(fields, spans); names != nil {
			t.Errorf("%s does not name the log's fields %q of %s", operations, names, file)
		}
	}
}

// The bounds in memory are named as package.constant, with their values.
func TestOperationsHasTheBounds(t *testing.T) {
	t.Parallel()
	rows := regexp.MustCompile("(?m)^\\| `([a-z]+)\\.([A-Za-z]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(documents(t)[operations], -1)
	if len(rows) < 10 {
		t.Fatalf("only %d rows are found", len(rows))
	}
	values := map[string]string{}
	for _, file := range projectFiles(t) {
		if file.isTest() {
			continue
		}
		ast.Inspect(syntaxOf(t, file.path), func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if ok && len(spec.Values) == len(spec.Names) {
				for i, name := range spec.Names {
					values[path.Base(path.Dir(file.path))+"."+name.Name] = bound(spec.Values[i])
				}
			}
			return true
		})
	}
	for _, row := range rows {
		if name, told := row[1]+"."+row[2], row[3]; values[name] != told {
			t.Errorf("%s says that %s is %s, and it is %q", operations, name, told, values[name])
		}
	}
}

// bound shows a constant of numbers alone, or of seconds, as people read it.
func bound(e ast.Expr) string {
	if of, ok := strings.CutSuffix(types.ExprString(e), " * time.Second"); ok {
		return of + " s"
	}
	result, err := types.Eval(token.NewFileSet(), nil, token.NoPos, types.ExprString(e))
	if err != nil || result.Value == nil {
		return ""
	}
	n, exact := constant.Int64Val(constant.ToInt(result.Value))
	switch shift, isShift := e.(*ast.BinaryExpr); {
	case !exact:
		return ""
	case isShift && shift.Op == token.SHL && n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case isShift && shift.Op == token.SHL:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return strconv.FormatInt(n, 10)
}

// The start errors are known by parts of their texts, which must be in the code.
func TestReadmeHasTheStartErrors(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	for _, file := range projectFiles(t) {
		if !file.isTest() {
			sources.WriteString(file.text)
		}
	}
	_, table, found := strings.Cut(documents(t)[readme], "| Start error |")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[2:]
	if !found || len(rows) < 10 {
		t.Fatalf("the table of start errors has only %d rows", len(rows))
	}
	for _, row := range rows {
		for _, part := range code(strings.Split(row, "|")[1]) {
			if !strings.Contains(sources.String(), part) {
				t.Errorf("%s names a start error that is not in the code: %q", readme, part)
			}
		}
	}
}

// What looks like a path of the project, in any document, is one.
func TestDocumentsNameRealFiles(t *testing.T) {
	t.Parallel()
	file := regexp.MustCompile(`(?:[\w.-]+/)*[\w-]+\.(?:go|sql|md)\b`)
	folder := regexp.MustCompile(`^(?:\.ci|cmd|docs|internal|scripts)/[\w./-]*$`)
	for name, doc := range documents(t) {
		found := file.FindAllString(prose(doc), -1)
		if name == architecture { // its drawings name files too
			found = file.FindAllString(doc, -1)
		}
		for _, span := range code(doc) {
			if folder.MatchString(span) {
				found = append(found, span)
			}
		}
		for _, p := range found {
			if _, err := os.Stat(strings.TrimPrefix(p, "../")); err != nil {
				t.Errorf("%s names %s: %v", name, p, err)
			}
		}
	}
}

// docs/reliability.md names no test and no planted bug that is not there.
func TestReliabilityNamesRealTests(t *testing.T) {
	t.Parallel()
	doc := documents(t)["docs/reliability.md"]
	var sources strings.Builder
	for _, file := range projectFiles(t) {
		sources.WriteString(file.text)
	}
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(doc, -1)
	if len(named) < 30 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, name := range named {
		if !strings.Contains(sources.String(), "func "+name+"(") {
			t.Errorf("docs/reliability.md names %s, which is not there", name)
		}
	}
	for _, span := range regexp.MustCompile("torture ((?:`[a-z-]+`(?:, )?)+)").FindAllStringSubmatch(doc, -1) {
		for _, fault := range code(span[1]) {
			if !strings.Contains(sources.String(), `"`+fault+`", "`) && !strings.Contains(sources.String(), ` = "`+fault+`"`) {
				t.Errorf("docs/reliability.md names the fault %s, which is not there", fault)
			}
		}
	}
}

func TestArchitecture(t *testing.T) {
	t.Parallel()
	doc := documents(t)[architecture]
	if n := strings.Count(doc, "\n"); n > maxArchitectureLines {
		t.Errorf("%s has %d lines, more than %d", architecture, n, maxArchitectureLines)
	}
	var packages []string
	for _, file := range projectFiles(t) {
		if dir := path.Dir(file.path); dir != "." {
			packages = append(packages, dir)
		}
	}
	if names := missing(packages, code(doc)); names != nil {
		t.Errorf("%s does not name the packages %q", architecture, names)
	}
}

// TestLinks follows the links within and between the documents.
func TestLinks(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	anchors := map[string][]string{}
	for name, doc := range docs {
		for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(prose(doc), -1) {
			anchor := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
			anchors[name] = append(anchors[name], strings.ReplaceAll(anchor, " ", "-"))
		}
	}
	links := 0
	for name, doc := range docs {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(prose(doc), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			links++
			file, anchor, hasAnchor := strings.Cut(link[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(target); err != nil || hasAnchor && !slices.Contains(anchors[target], anchor) {
				t.Errorf("%s has a link that leads nowhere: %s", name, link[1])
			}
		}
	}
	if links < 5 {
		t.Errorf("only %d links are found", links)
	}
}

func TestVersionOfGo(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(mod)
	if version == nil || !strings.Contains(documents(t)[readme], fmt.Sprintf("Go %s or newer", version[1])) {
		t.Errorf("%s does not want Go %s or newer, as go.mod does", readme, version[1])
	}
}
