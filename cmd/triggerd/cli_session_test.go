package main

import (
	"strings"
	"testing"
)

// No message of the command line shows a password or the value of a header.
func TestMessagesWithoutSecrets(t *testing.T) {
	t.Parallel()
	const secret = "geheim"
	for _, tt := range []struct{ args, env string }{
		{"me", "http://u:geheim@127.0.0.1:1"},
		{"me", "ftp://u:geheim@127.0.0.1:1"},
		{"me", "geheim"},
		{"listen --forward ftp://u:geheim@x/", "http://127.0.0.1:1"},
		{"listen --forward geheim", "http://127.0.0.1:1"},
		{"webhook create https://a.example --header Authorization=geheim", "http://127.0.0.1:1"},
		{"torture --database postgres://u:geheim@db.example.com/x", ""},
	} {
		out, err := runProgram(t.Context(), map[string]string{"TRIGGERD_URL": tt.env, "TRIGGERD_KEY": "sk_test"}, strings.Fields(tt.args)...)
		if err == nil {
			t.Errorf("%s, TRIGGERD_URL=%s: no error", tt.args, tt.env)
		} else if text := out + err.Error(); strings.Contains(text, secret) {
			t.Errorf("%s, TRIGGERD_URL=%s: %s", tt.args, tt.env, text)
		}
	}
	for url, want := range map[string]string{
		"http://u:p@a.example:5/x": "http://u:xxxxx@a.example:5/x", "https://a.example": "https://a.example",
		"a.example": "the server's URL", "http://%zz@a": "the server's URL", "http://" + strings.Repeat("a", 200): "http://" + strings.Repeat("a", 93),
	} {
		if got := withoutPassword(url); got != want {
			t.Errorf("%q is shown as %q, want %q", url, got, want)
		}
	}
}
