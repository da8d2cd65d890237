package deliver

import (
	"fmt"
	"html"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// drawEscaped escapes some bytes of a text, as receivers do: each in one of the
// ways that a kind of text allows.
func drawEscaped(t *rapid.T, kind, text string) string {
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		ways := []string{string(c)}
		switch kind {
		case "JSON":
			ways = []string{fmt.Sprintf(`\u%04x`, c), fmt.Sprintf(`\u%04X`, c)}
			if c != '"' && c != '\\' {
				ways = append(ways, string(c))
			}
			if strings.IndexByte(`"\/`, c) >= 0 {
				ways = append(ways, `\`+string(c))
			}
		case "URL":
			ways = []string{fmt.Sprintf("%%%02x", c), fmt.Sprintf("%%%02X", c)}
			if c != '%' && c != ' ' {
				ways = append(ways, string(c))
			}
		case "form":
			ways = []string{fmt.Sprintf("%%%02x", c), fmt.Sprintf("%%%02X", c)}
			if c == ' ' {
				ways = append(ways, "+")
			} else if c != '%' && c != '+' {
				ways = append(ways, string(c))
			}
		case "HTML":
			ways = []string{fmt.Sprintf("&#%d;", c), fmt.Sprintf("&#x%x;", c), fmt.Sprintf("&#X%X;", c), html.EscapeString(string(c))}
		}
		out.WriteString(rapid.SampledFrom(ways).Draw(t, "way"))
	}
	return out.String()
}

// However a receiver escapes what it got, nothing of a credential is kept, and
// what stands beside it is.
func TestCredentialsAreFoundHoweverEscaped(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.StringOfN(rapid.SampledFrom([]rune(`aB9/+=-_.~"'<>&\% `)), 8, 24, -1).Draw(t, "token")
		w := &trigger.Webhook{Auth: trigger.Auth{Bearer: token}}
		shown := drawEscaped(t, rapid.SampledFrom([]string{"raw", "JSON", "URL", "form", "HTML"}).Draw(t, "kind"), token)
		if rapid.Bool().Draw(t, "within JSON") {
			shown = drawEscaped(t, "JSON", shown)
		}
		r := newRedactor(w, 1<<20)
		if got := r.text("before: " + shown + ", after"); got != "before: [redacted], after" {
			t.Fatalf("%q, shown as %q, is kept as %q", token, shown, got)
		}
		cut := rapid.IntRange(1, len(shown)).Draw(t, "cut")
		got := string(r.answer([]byte("before: "+shown[:cut]), true))
		if rest, ok := strings.CutPrefix(got, "before:"); !ok || len(rest) > 1+longestRest {
			t.Fatalf("%q, shown as %q and cut off after %d bytes, is kept as %q", token, shown, cut, got)
		}
	})
}

// longestRest is what may be left of a credential that was cut off: fewer than
// minRedacted bytes, and a part of another, each escaped twice.
const longestRest = minRedacted * 36

// The work for an answer grows with its length alone, whatever it holds.
func BenchmarkRedact(b *testing.B) {
	w := &trigger.Webhook{Auth: trigger.Auth{Bearer: strings.Repeat("Z", 4000) + "!"}}
	for name, body := range map[string]string{
		"plain": strings.Repeat("all is well ", 5000), "the beginning again and again": strings.Repeat("Z", 60_000), "escapes": strings.Repeat(`\u005A%5a&#90;+`, 4000),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				newRedactor(w, len(body)).answer([]byte(body), true)
			}
		})
	}
}
