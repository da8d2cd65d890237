package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"triggerd/internal/trigger"
)

// A member of the wrong type is named with the type that it must have and the
// one that it has.
func TestDecodeNamesTypes(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"id":"x"}`:       "id must be an integer; got a string",
		`{"id":1.5}`:       "id must be an integer; got the number 1.5",
		`{"id":[1]}`:       "id must be an integer; got an array",
		`{"rate":{}}`:      "rate must be a number; got an object",
		`{"on":1}`:         "on must be true or false; got a number",
		`{"name":true}`:    "name must be a string; got a boolean",
		`{"claim":1}`:      "claim must be a string; got a number",
		`{"types":"a"}`:    "types must be an array; got a string",
		`{"types":["",1]}`: "each element of types must be a string; got a number",
		`{"Id":1}`:         `unknown member "Id"`,
		`{"id":1,"id":1}`:  "id must appear only once",
		`{"id":` + strings.Repeat("9", 100) + `}`: "id must be an integer; got the number " + strings.Repeat("9", 53),
	} {
		var into struct {
			ID    opt[int64]     `json:"id"`
			Rate  opt[float64]   `json:"rate"`
			On    opt[bool]      `json:"on"`
			Name  opt[string]    `json:"name"`
			Claim string         `json:"claim"`
			Types opt[[]*string] `json:"types"`
		}
		if got := message(decode(json.RawMessage(body), &into, "#")); got != want {
			t.Errorf("%.60s: %q, want %q", body, got, want)
		}
	}
}

func TestUnsupportedMediaNamesTheHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ media, encoding, want string }{
		{"text/plain", "", `Content-Type must be JSON, without a Content-Encoding; got "text/plain"`},
		{"text/plain", "identity", `Content-Type must be JSON, without a Content-Encoding; got "text/plain"`},
		{"application/json", "gzip", `Content-Type must be JSON, without a Content-Encoding; got the Content-Encoding "gzip"`},
		{strings.Repeat("a", 100), "", `Content-Type must be JSON, without a Content-Encoding; got "` + strings.Repeat("a", 60) + `"`},
	} {
		err := unsupportedMedia(http.Header{"Content-Type": {tt.media}, "Content-Encoding": {tt.encoding}}, "JSON")
		if err.(*trigger.Error).Message != tt.want {
			t.Errorf("%q, want %q", err, tt.want)
		}
	}
}
