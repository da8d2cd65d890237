package deliver

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"triggerd/internal/trigger"
)

// redacted stands where a credential of a webhook was in what its receiver
// answered, for example a debugging page that shows the request.
const redacted = "[redacted]"

// minRedacted is the length from which on a value is taken for a credential, in
// bytes. A shorter one, for example "1", is in many answers by chance.
const minRedacted = 4

// redactor takes the credentials of a webhook out of texts: the value of its
// Authorization header, those of the headers that its owner has set, and its
// secrets for signing; as they are and in base64, the secrets also in
// hexadecimal, and each of these however a receiver escapes it: for JSON, a URL or
// HTML. It looks for nothing else.
type redactor struct {
	values []string
	most   int // a longer value cannot be in the text
}

// newRedactor makes a redactor for texts of at most so many bytes.
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
		raw, _ := base64.StdEncoding.DecodeString(encoded) // Reveal has encoded it
		r.add(shown)
		r.add(string(raw))
		r.add(hex.EncodeToString(raw))
		if len(raw) == 64 && strings.HasPrefix(shown, "whsk_") { // a private key of ed25519 begins with its seed
			r.add(string(raw[:32]))
			r.add(hex.EncodeToString(raw[:32]))
		}
	}
	return r
}

// afterScheme returns what follows the first word of a value such as "Bearer
// 1234"; "" if it is too short to be a credential.
func afterScheme(value string) string {
	if _, rest, _ := strings.Cut(value, " "); len(rest) >= 2*minRedacted {
		return rest
	}
	return ""
}

// add adds a value, as it is and in base64.
func (r *redactor) add(value string) {
	if len(value) < minRedacted || len(value) > r.most {
		return
	}
	r.values = append(r.values, value, base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
}

// text returns a text without the credentials.
func (r redactor) text(text string) string { return string(r.answer([]byte(text), false)) }

// answer returns the body of an answer without the credentials. If the body was
// cut off, its end may be the beginning of a credential, which goes too.
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

// without returns a body up to an end, with the spans of it redacted.
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
