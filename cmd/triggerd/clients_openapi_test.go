package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// description is what others read of the API, seen from here.
const description = "../../internal/api/openapi.yaml"

// TestDescription has the tools of others read the description: two linters,
// and openapi-typescript with tsc. Then a program of its types has a session
// with a server, by itself, and with prism between them, which holds each
// request and each answer against the description.
func TestDescription(t *testing.T) {
	t.Parallel()
	folder, built := needPackages(t, "openapi"), t.TempDir()
	receiver := newRecorder(t, nil)
	s := startServer(t, storetest.SQLite(t), func(set *settings) { set.RateLimitRPM = 1000 })
	ready := startPrism(t, folder, newSpoiler(t, s.URL))
	runCommand(t, command(t, folder, nil, "./lint.sh", built))
	prism := ready()
	session := func(url string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			env := []string{"TRIGGERD_URL=" + url, "TRIGGERD_KEY=" + s.newKey(t, "free"), "TRIGGERD_HOOK=" + receiver.URL}
			runCommand(t, command(t, built, env, "node", "session.js"))
		}
	}
	t.Run("openapi-fetch", session(s.URL))
	t.Run("prism", session(prism))
	t.Run("prism judges", func(t *testing.T) {
		t.Parallel()
		proxied := &testServer{URL: prism, client: &http.Client{Timeout: patience}}
		defer proxied.client.CloseIdleConnections()
		key := s.newKey(t, "free")
		for path, want := range map[string]string{
			"/v1/event-types/" + spoiled: "must have required property 'mode'",
			"/v1/events?order=none":      "must be equal to one of the allowed values: newest, oldest",
		} {
			r := proxied.get(t, key, path)
			if !strings.Contains(r.body, "prism/errors#") || !strings.Contains(r.body, want) {
				t.Errorf("%s: %d %s, want %s", path, r.status, r.body, want)
			}
		}
	})
}

// startPrism starts prism in front of a server, with every violation an error,
// and returns a function that waits for its URL.
func startPrism(t *testing.T, folder, server string) (ready func() string) {
	t.Helper()
	file, err := filepath.Abs(description)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, folder, nil, "node_modules/.bin/prism", "proxy", file, server, "--errors", "--port", "0")
	return startCommand(t, cmd, regexp.MustCompile(`http://127\.0\.0\.1:\d+$`))
}

// spoiled is the event type that a spoiler has a wrong answer for.
const spoiled = "spoiled"

// newSpoiler stands in front of a server, and answers wrongly once, so that it
// can be seen that prism says so.
func newSpoiler(t *testing.T, server string) string {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	mux := http.NewServeMux()
	mux.Handle("/", &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	mux.HandleFunc("GET /v1/event-types/"+spoiled, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"name":"spoiled"}`)
	})
	spoiler := httptest.NewServer(mux)
	t.Cleanup(spoiler.Close)
	return spoiler.URL
}
