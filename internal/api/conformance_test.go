package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// watched is a run of the tests that wants all successes that openapi.yaml
// describes to be seen.
type watched struct{ tests *testing.M }

// Run implements goleak.TestingM.
func (w watched) Run() int {
	code := w.tests.Run()
	for _, part := range []string{"test.run", "test.list", "test.fuzz", "test.bench"} {
		if f := flag.Lookup(part); f != nil && f.Value.String() != "" {
			return code // not all tests ran
		}
	}
	if unseen := unseen(); code == 0 && len(unseen) > 0 {
		fmt.Fprintf(os.Stderr, "no test has seen these successes, which openapi.yaml describes:\n\t%s\n", strings.Join(unseen, "\n\t"))
		return 1
	}
	return code
}

// unseen are the successes that no test has asked for.
func unseen() (list []string) {
	for name, o := range description().operations {
		for status := range o.answers {
			what := fmt.Sprint(name, " ", status)
			if _, ok := seen.Load(what); !ok && status < 300 {
				list = append(list, what)
			}
		}
	}
	slices.Sort(list)
	return list
}

// TestProblemCodes holds the codes of problems together: those that
// [problems] has, those that are given out anywhere, those that openapi.yaml
// describes, and those that are explained to people.
func TestProblemCodes(t *testing.T) {
	t.Parallel()
	var known []string
	for _, p := range problems() {
		known = append(known, p.code)
	}
	slices.Sort(known)
	html := read(t, "docs/problems.html")
	links, anchors := found(`<td><a href="#([a-z_]+)"><code>[a-z_]+</code></a>`, html), found(`<h2 id="([a-z_]+)"`, html)
	d := description()
	var listed, shown []string
	for _, value := range asList(asObject(asObject(asObject(d.root["components"])["schemas"])["ProblemCode"])["enum"]) {
		listed = append(listed, asText(value))
	}
	slices.Sort(listed)
	for name, example := range asObject(asObject(d.root["components"])["examples"]) {
		p := asObject(asObject(example)["value"])
		if p["code"] == nil {
			continue
		}
		shown = append(shown, asText(p["code"]))
		status, _ := p["status"].(json.Number).Int64()
		if err := problemFits(int(status), p); err != nil {
			t.Errorf("the example %s: %v", name, err)
		}
	}
	shown = append(shown, "method_not_allowed") // belongs to no operation
	slices.Sort(shown)
	for what, list := range map[string][]string{
		"the links of problems.html": links, "the anchors of problems.html": anchors, "the enum of openapi.yaml": listed, "the examples of openapi.yaml": slices.Compact(shown),
	} {
		if !slices.Equal(list, known) {
			t.Errorf("%s are %v, and problem.go has %v", what, list, known)
		}
	}
	for _, name := range known {
		_, status := codes(name)
		if !strings.Contains(html, fmt.Sprintf(`<tr><td>%d</td><td><a href="#%s">`, status, name)) {
			t.Errorf("problems.html has another status for %s than %d", name, status)
		}
	}
	for _, file := range sources(t) {
		for _, given := range found(`(?:Code: |Code = |Code, [\w.]+ = |forbidden\()"([a-z_]+)"`, read(t, file)) {
			if !slices.Contains(known, given) {
				t.Errorf("%s gives out the code %s, which is unknown", file, given)
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// found are the first groups of all that matches, sorted.
func found(pattern, in string) (list []string) {
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1) {
		list = append(list, match[1])
	}
	slices.Sort(list)
	return list
}

// sources are the files from which errors come.
func sources(t *testing.T) (list []string) {
	t.Helper()
	for _, dir := range []string{".", "../store", "../trigger", "../ingest", "../deliver", "../limit"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		list = append(list, slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "_test.go") })...)
	}
	return list
}

// Whatever a path of /v1 does not have is 405, whoever asks.
func TestNewWrongMethods(t *testing.T) {
	t.Parallel()
	s, d := newServer(t, storetest.SQLite(t)), description()
	paths := map[string]bool{}
	for _, rt := range s.api.newRoutes() {
		paths[filled(rt.path)] = true
	}
	methods := []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
	for path := range maps.Keys(paths) {
		var allow []string
		for _, method := range methods {
			if d.of(httptest.NewRequestWithContext(t.Context(), method, path, nil)) != nil {
				allow = append(allow, method)
			}
		}
		for _, method := range append(slices.Clone(methods), "TRACE", "QUERY", "get") {
			if slices.Contains(allow, method) {
				continue
			}
			r := s.do(t, method, path, "", "{", "Content-Type: text/plain")
			if r.status != 405 || r.header.Get("Allow") != strings.Join(allow, ", ") || method != "HEAD" && !strings.Contains(r.body, `"code":"method_not_allowed"`) {
				t.Errorf("%s %s: %d, Allow %q, %s", method, path, r.status, r.header.Get("Allow"), r.body)
			}
		}
	}
}

func TestNewUnknownPaths(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	for _, path := range []string{
		"/v1/", "/v1/event", "/v1/Events", "/v1/events/", "/v1/events/" + someEvent + "/", "/v1/events/" + someEvent + "/x", "/v1//events", "/v1/./events",
		"/v1/x/../events", "/v1/%2e%2e/health", "/v1/events%2f", "/v1/events%00", "/v1/me;a=b", "/v1/me%3Fa", "/v1/health", "/v1/api/events", "/v1/v1/me",
		"/v1/docs", "/v1/keys/1/", "/v1/inbox/streams", "/v1/%ff",
	} {
		for _, method := range []string{"GET", "POST", "HEAD", "DELETE"} {
			r := s.do(t, method, path, "", "")
			if r.status != 404 || method != "HEAD" && !strings.Contains(r.body, `"code":"not_found"`) {
				t.Errorf("%s %s: %d %s, Location %q", method, path, r.status, r.body, r.header.Get("Location"))
			}
		}
	}
	for _, path := range []string{"/docs/x", "/docs/assets/x", "/docs/assets/..%2fopenapi.yaml", "/docs/assets/index.html/x", "/docs/assets/", "/openapi.json", "/docs/"} {
		s.do(t, "GET", path, "", "").wants(t, path, 404, "")
	}
}

// The page and the description are there, whole, for everyone, and what they
// load is there, too.
func TestDocs(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.AdminToken = "token" })
	s.do(t, "GET", "/openapi.yaml", "", "").isExactly(t, "openapi.yaml", 200, read(t, "openapi.yaml"))
	for path, name := range map[string]string{"/docs": "docs/index.html", "/docs/problems": "docs/problems.html"} {
		r := s.do(t, "GET", path, "", "")
		r.isExactly(t, path, 200, read(t, name))
		if policy := r.header.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s: %s", path, policy)
		}
		for _, file := range found(`(?:src|href)="(?:docs/)?(assets/[^"#]+)"`, r.body) {
			if a := s.do(t, "GET", "/docs/"+file, "", ""); a.status != 200 || a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s loads %s: %d", path, file, a.status)
			}
		}
		for _, file := range found(`(?:src|href)="(https?:[^"]+\.(?:js|css|png|svg))"`, r.body) {
			t.Errorf("%s loads %s", path, file)
		}
	}
	entries, err := files.ReadDir("docs")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".html") {
			continue // the pages have paths of their own
		}
		s.do(t, "GET", "/docs/assets/"+entry.Name(), "", "").isExactly(t, entry.Name(), 200, read(t, "docs/"+entry.Name()))
	}
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose", "/readyz?verbose=1"} {
		s.do(t, "GET", path, "", "").wants(t, path, 200, `"status":"ok"`)
	}
	s.do(t, "GET", "/metrics", "", "", adminToken).wants(t, "metrics", 200, "triggerd_")
	s.do(t, "GET", "/metrics", "", "").isExactly(t, "metrics", 401, `{"error":"Missing or wrong admin token"}`)
}
