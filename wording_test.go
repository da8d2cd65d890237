package triggerd_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The limits of marked constructions per 1,000 words. They only go down.
const (
	maxMarkedInDocuments = 2.0
	maxMarkedInComments  = 2.0
)

// messagesGolden has all messages of the packages below messagesRoot.
const (
	messagesRoot   = "internal/"
	messagesGolden = "testdata/messages.golden"
)

var update = flag.Bool("update", false, "write "+messagesGolden)

// marked are the constructions that make a text hard to read, as patterns by an
// example of each.
func marked() map[string]string {
	return map[string]string{
		"the name is that of a key":       `\b(?:that|those) (?:of|that)\b`,
		"the store judges the batch":      `\bjudg\w+`,
		"there is none":                   `\b(?:is|are|was|were) (?:none|no)\b`,
		"Unwrap gives the cause":          `\bgives?\b`,
		"nobody reads the rest":           `\b(?:nobody|somebody|whoever|whatever)\b`,
		"the event is owed to a webhook":  `\bow(?:ed|es?)\b`,
		"It ends. What remains is stored": `(?:^|[.:;] )(?:What|Whoever) [a-z]+ `,
		"a webhook fares well":            `\bfares?\b`,
		"the text is taken as it is":      `\bas it is\b|\bas they are\b`,
		"a lock held up the commit":       `\bheld up\b|\bholds up\b`,
		"no receiver bears it":            `\bbears?\b`,
		"the time is meant for people":    `\bis (?:known|told|asked|meant) (?:of|by|for)\b`,
	}
}

// markedIn returns the marked constructions of a text.
func markedIn(text string) (found []string) {
	for _, pattern := range marked() {
		found = append(found, regexp.MustCompile(`(?im)`+pattern).FindAllString(text, -1)...)
	}
	slices.Sort(found)
	return found
}

// perThousand returns how many marked constructions a text has per 1,000 words.
func perThousand(text string) float64 {
	words := len(regexp.MustCompile(`[A-Za-z']+`).FindAllString(text, -1))
	return 1000 * float64(len(markedIn(text))) / float64(max(words, 1))
}

// commentsOf returns the comments of a Go file, without directives.
func commentsOf(t *testing.T, file source) string {
	t.Helper()
	syntax, err := parser.ParseFile(token.NewFileSet(), file.path, file.text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, group := range syntax.Comments {
		text.WriteString(group.Text() + "\n")
	}
	return text.String()
}

func TestWordingOfDocuments(t *testing.T) {
	t.Parallel()
	all := strings.Join(slices.Collect(maps.Values(documents(t))), "\n")
	if got := perThousand(all); got > maxMarkedInDocuments {
		t.Errorf("the documents have %.1f marked constructions per 1,000 words, limit %.1f", got, maxMarkedInDocuments)
	}
}

func TestWordingOfComments(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for _, file := range projectFiles(t) {
		if !file.isTest() {
			all.WriteString(commentsOf(t, file))
		}
	}
	if got := perThousand(all.String()); got > maxMarkedInComments {
		t.Errorf("the comments have %.1f marked constructions per 1,000 words, limit %.1f", got, maxMarkedInComments)
	}
}

func TestWordingOfMessages(t *testing.T) {
	t.Parallel()
	for _, message := range projectMessages(t) {
		if found := markedIn(message); found != nil {
			t.Errorf("%q has %q", message, found)
		}
	}
}

// TestMessages shows each change of a message to its reviewer.
func TestMessages(t *testing.T) {
	t.Parallel()
	got := strings.Join(projectMessages(t), "\n") + "\n"
	if *update {
		if err := os.WriteFile(messagesGolden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(messagesGolden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs; after a review of the messages run: go test . -run TestMessages -update\n%s", messagesGolden, diff)
	}
}

// projectMessages returns the messages of the project, as "package: message".
func projectMessages(t *testing.T) []string {
	t.Helper()
	all := map[string]bool{}
	for _, file := range projectFiles(t) {
		if file.isTest() || !strings.HasPrefix(file.path, messagesRoot) || path.Dir(file.path) == storetest {
			continue
		}
		for _, message := range messagesOf(t, file) {
			all[strings.TrimPrefix(path.Dir(file.path), messagesRoot)+": "+strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(message)] = true
		}
	}
	if len(all) < 400 {
		t.Fatalf("only %d messages are found", len(all))
	}
	return slices.Sorted(maps.Keys(all))
}

// messagesOf returns the messages of one file: what is passed to functions that
// make errors or log lines, and every other text that reads as English.
func messagesOf(t *testing.T, file source) (messages []string) {
	t.Helper()
	syntax, err := parser.ParseFile(token.NewFileSet(), file.path, file.text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	certain := map[ast.Expr]bool{}
	ast.Inspect(syntax, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.CallExpr:
			if i := messageArg(node); i >= 0 && i < len(node.Args) {
				certain[node.Args[i]] = true
			}
		case ast.Expr:
			message, ok := rendered(node)
			if ok && (certain[node] || isEnglish(message)) && regexp.MustCompile(`[a-z]{2}`).MatchString(message) {
				messages = append(messages, message)
			}
			return !ok // else its parts would be messages, too
		}
		return true
	})
	return messages
}

// messageArg returns which argument of a call is a message; -1 if none is for
// certain.
func messageArg(call *ast.CallExpr) int {
	function := types.ExprString(call.Fun)
	name := function[strings.LastIndexByte(function, '.')+1:]
	of := strings.ToLower(strings.TrimSuffix(function, "."+name))
	switch {
	case function == "errors.New" || function == "fmt.Errorf":
		return 0
	case name == "Errorf":
		return 1
	case name == "wrap" || name == "wrapped":
		return 0
	case name == "LogAttrs":
		return 2
	case slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, name) && strings.HasSuffix(of, "log"):
		return 0
	}
	return -1
}

// rendered returns the text of an expression that is a string literal or a sum
// with one, its other parts as "…"; it is not ok for other expressions.
func rendered(e ast.Expr) (message string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		value, err := strconv.Unquote(e.Value)
		return value, err == nil && e.Kind == token.STRING
	case *ast.ParenExpr:
		return rendered(e.X)
	case *ast.BinaryExpr:
		left, isLeft := rendered(e.X)
		right, isRight := rendered(e.Y)
		if e.Op != token.ADD || !isLeft && !isRight {
			return "", false
		}
		if !isLeft {
			left = "…"
		}
		if !isRight {
			right = "…"
		}
		return left + right, true
	}
	return "", false
}

// isEnglish reports whether a text is words, and neither SQL nor a format of
// machines.
func isEnglish(text string) bool {
	const sql = `\b(?:AND|BEGIN|COMMIT|CONFLICT|CREATE|DELETE|DROP|FOR|FROM|INSERT|JOIN|LIMIT|LOCK|ORDER|PRAGMA|RELEASE|` +
		`RETURNING|ROLLBACK|SAVEPOINT|SELECT|SET|SHOW|UNION|UPDATE|VALUES|VACUUM|WHERE)\b|state [=<>]|state IN|[=>] [?$:(]`
	other := regexp.MustCompile(sql + `|[{}<\t\x00]|\n\s|charset=|max-age=|realm=|'none'|2 Jan|Jan 2006|HTTP/1.1\n|^\^`)
	words := regexp.MustCompile(`[A-Za-z%…]{2,}[,:]? [A-Za-z%…]{2,}|[a-z] … ?[a-z]`)
	return words.MatchString(text) && !other.MatchString(text)
}

// TestPlantedWording shows that each pattern finds its example, and that each
// kind of message is found.
func TestPlantedWording(t *testing.T) {
	t.Parallel()
	for example, pattern := range marked() {
		if found := markedIn(example); len(found) != 1 {
			t.Errorf("%s finds %q in %q", pattern, found, example)
		}
	}
	if found := markedIn("Unwrap returns the cause, for example an error of the database."); found != nil {
		t.Errorf("found %q in plain English", found)
	}
	if got := fmt.Sprintf("%.0f", perThousand("One of ten words is marked here: nobody reads it.")); got != "100" {
		t.Errorf("%s per 1,000 words, want 100", got)
	}
	for body, want := range map[string][]string{
		`errors.New("closed")`:                          {"closed"},
		`fmt.Errorf("read %s: %w", name, err)`:          {"read %s: %w"},
		`trigger.Errorf(trigger.Invalid, "too long")`:   {"too long"},
		`s.log.Warn("failed", "error", err)`:            {"failed"},
		`log.Info("a " + name + " file", "key", "v")`:   {"a … file"},
		`a.Log.LogAttrs(ctx, 4, "sent")`:                {"sent"},
		`&trigger.Error{Message: "The body is large"}`:  {"The body is large"},
		`wrap("sweep", err)`:                            {"sweep"},
		`invalid("#/url", "url is missing")`:            {"url is missing"},
		`func() string { return "must be a string" }`:   {"must be a string"},
		`db.Query("SELECT a FROM b WHERE c = $1", one)`: nil,
		`w.Header().Set("Content-Type", "text/plain")`:  nil,
	} {
		got := messagesOf(t, source{"a.go", "package p\nvar _ = " + body + "\n"})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}
