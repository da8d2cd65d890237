package deliver

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
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
// secrets for signing; as they are, and in the forms that receivers commonly
// show them in. It looks for nothing else.
type redactor struct {
	forms []string // the longest first
	most  int      // a longer value cannot be in the text
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
	slices.SortFunc(r.forms, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	r.forms = slices.Compact(r.forms)
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

// add adds the forms of a value.
func (r *redactor) add(value string) {
	if len(value) < minRedacted || len(value) > r.most {
		return
	}
	quoted, _ := json.Marshal(value) // cannot fail for a string
	r.forms = append(r.forms, value, string(quoted[1:len(quoted)-1]), url.QueryEscape(value), url.PathEscape(value),
		base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
}

// text returns a text without the credentials.
func (r redactor) text(text string) string {
	if !slices.ContainsFunc(r.forms, func(form string) bool { return strings.Contains(text, form) }) {
		return text
	}
	pairs := make([]string, 0, 2*len(r.forms))
	for _, form := range r.forms {
		pairs = append(pairs, form, redacted)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// answer is text for the body of an answer. If the body was cut off, its end
// may be the beginning of a credential, which goes too.
func (r redactor) answer(body []byte, cut bool) []byte {
	if slices.ContainsFunc(r.forms, func(form string) bool { return bytes.Contains(body, []byte(form)) }) {
		body = []byte(r.text(string(body)))
	}
	if cut {
		body = body[:len(body)-r.begun(body)]
	}
	return body
}

// begun returns how many bytes at the end of a body are the beginning of a
// credential.
func (r redactor) begun(body []byte) (n int) {
	for _, form := range r.forms {
		for size := min(len(form)-1, len(body)); size >= minRedacted && size > n; size-- {
			if string(body[len(body)-size:]) == form[:size] {
				n = size
			}
		}
	}
	return n
}
