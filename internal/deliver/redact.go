package deliver

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"triggerd/internal/trigger"
)

// redacted replaces a credential of a webhook in an answer, for example of a
// debugging page that shows the request.
const redacted = "[redacted]"

// minRedacted is the minimum length of a credential, in bytes. A shorter value,
// for example "1", is in many answers by chance.
const minRedacted = 4

// redactor removes the credentials of a webhook from texts: the value of its
// Authorization header, the values of the headers that its owner has set, and
// its signing secrets. It finds them as plain text and in base64, secrets also
// in hexadecimal, and each of these with the escapes of JSON, URLs or HTML. It
// removes nothing else.
type redactor struct {
	values []string
	most   int // longer values cannot be in the text
}

// newRedactor returns a redactor for texts of at most that many bytes.
func newRedactor(w *trigger.Webhook, most int) redactor {
	var values []string
	for _, value := range w.Headers {
		values = append(values, value, afterScheme(value))
	}
	header := w.Auth.Header()
	values = append(values, header, afterScheme(header), w.Auth.Bearer, w.Auth.Password, w.Auth.User+":"+w.Auth.Password)
	r := redactor{most: most}
	for _, value := range values {
		r.add(value)
	}
	for _, secret := range w.Secrets {
		shown := secret.Reveal()
		_, encoded, _ := strings.Cut(shown, "_")
		raw, _ := base64.StdEncoding.DecodeString(encoded) // Reveal returns valid base64
		r.add(shown)
		r.add(string(raw))
		r.add(hex.EncodeToString(raw))
		if len(raw) == 64 && strings.HasPrefix(shown, "whsk_") { // an ed25519 private key begins with its seed
			r.add(string(raw[:32]))
			r.add(hex.EncodeToString(raw[:32]))
		}
	}
	return r
}

// afterScheme returns the rest of a value after its first word, for example of
// "Bearer 1234"; "" if the rest is too short to be a credential.
func afterScheme(value string) string {
	if _, rest, _ := strings.Cut(value, " "); len(rest) >= 2*minRedacted {
		return rest
	}
	return ""
}

// add adds a value, as plain text and in base64.
func (r *redactor) add(value string) {
	if len(value) < minRedacted || len(value) > r.most {
		return
	}
	r.values = append(r.values, value, base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
}

// text returns a text without the credentials.
func (r redactor) text(text string) string { return string(r.answer([]byte(text), false)) }

// answer returns the body of an answer without the credentials. If the body was
// cut off, answer also removes an end that may be the beginning of one.
func (r redactor) answer(body []byte, cut bool) []byte {
	if len(r.values) == 0 {
		return body
	}
	if cut {
		body = body[:len(body)-begunEscape(body)]
	}
	var spans [][2]int
	end := len(body)
	for _, plain := range readings(body) {
		for _, value := range r.values {
			spans = append(spans, plain.find(value)...)
			if cut {
				end = min(end, plain.begun(value))
			}
		}
	}
	return without(body, spans, end)
}

// without returns body[:end], with its spans redacted.
func without(body []byte, spans [][2]int, end int) []byte {
	if len(spans) == 0 {
		return body[:end]
	}
	slices.SortFunc(spans, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(b[1], a[1])) })
	var out []byte
	at := 0
	for _, span := range spans {
		if span[0] >= end {
			break
		}
		if span[0] >= at {
			out = append(append(out, body[at:span[0]]...), redacted...)
		}
		at = max(at, span[1])
	}
	if at < end {
		out = append(out, body[at:end]...)
	}
	return out
}
