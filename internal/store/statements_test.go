package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The four tables that can be distributed by their bucket, in a statement.
var distributed = regexp.MustCompile(`(?i)\b(FROM|INTO|UPDATE|JOIN)\s+(events|dedup|deliveries|attempts)\b`)

// What no statement may hold: it would make results depend on the node that
// computes them, serialize commits, or not work distributed.
var forbidden = regexp.MustCompile(`(?i)\bnow\(|current_timestamp|clock_timestamp|statement_timestamp|random\(|gen_random_uuid|` +
	`\bNOTIFY\b|\bLISTEN\b|pg_advisory|nextval|\bLOCK TABLE\b`)

// withoutBucket lists statements that ask all buckets, by a part of them that
// is theirs alone, and why they may.
func withoutBucket() map[string]string {
	return map[string]string{
		"clock_timestamp()":                   "the one place that asks the server for its time",
		"webhook_id > 0 LIMIT 100000":         "a metric, every few seconds",
		"UPDATE deliveries SET state = 1":     "sliceOf adds the WHERE",
		"attempts = attempts + 1":             "the same",
		"UPDATE deliveries SET due_at = $8":   "the same",
		"ORDER BY rowid LIMIT $2) WHERE id":   "SQLite alone, which has no buckets to keep apart",
		"ORDER BY rowid LIMIT $2) WHERE even": "the same",
		"claim <> $1":                         "the same",
	}
}

// The rules that keep the schema open for distribution hold for every
// statement in the package's source.
func TestStatements(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	statements := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || excused(text) {
				return true
			}
			if distributed.MatchString(text) {
				if statements++; !strings.Contains(text, "bucket") {
					t.Errorf("%s: a statement without its bucket: %s", fset.Position(lit.Pos()), text)
				}
			}
			if found := forbidden.FindString(text); found != "" {
				t.Errorf("%s: a statement with %s", fset.Position(lit.Pos()), found)
			}
			return true
		})
	}
	if statements < 20 {
		t.Errorf("only %d statements were found", statements)
	}
}

func excused(text string) bool {
	for part := range withoutBucket() {
		if strings.Contains(text, part) {
			return true
		}
	}
	return text == "DELETE FROM deliveries" // sliceOf adds the WHERE
}
