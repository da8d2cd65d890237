package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"triggerd/internal/trigger"
)

// isDescribed reports a path that is openapi.yaml's matter.
func isDescribed(p string) bool {
	return strings.HasPrefix(p, "/v1/") || p == "/openapi.yaml" || p == "/docs" || strings.HasPrefix(p, "/docs/") ||
		slices.Contains([]string{"/livez", "/readyz", "/metrics"}, p)
}

// seen are the successes that were asked for in this run of the tests, as
// operation and status.
var seen sync.Map

// exchanged is a request, as far as it was read, and its answer.
type exchanged struct {
	op      *operation // nil if there is none
	request *http.Request
	sent    bytes.Buffer
	read    io.ReadCloser

	http.ResponseWriter
	status int
	header http.Header
	body   bytes.Buffer
}

func (x *exchanged) Read(b []byte) (int, error) {
	n, err := x.read.Read(b)
	x.sent.Write(b[:n])
	return n, err
}

func (x *exchanged) Close() error { return x.read.Close() }

func (x *exchanged) WriteHeader(status int) {
	x.note(status)
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchanged) Write(b []byte) (int, error) {
	x.note(http.StatusOK)
	x.body.Write(b)
	return x.ResponseWriter.Write(b)
}

func (x *exchanged) note(status int) {
	if x.status == 0 {
		x.status, x.header = status, x.Header().Clone()
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchanged) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// conforms holds each answer of the handler to openapi.yaml. What does not fit
// fails the test that has started the server.
func (s *server) conforms(t *testing.T, next http.Handler) http.Handler {
	d := description()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); !isDescribed(p) || p != path.Clean("/"+p) {
			next.ServeHTTP(w, r)
			return
		}
		x := &exchanged{op: d.of(r), read: r.Body, ResponseWriter: w}
		r = r.WithContext(r.Context()) // a copy: how the server ends a request depends on its Body
		r.Body, x.request = x, r
		defer func() {
			aborted := recover()
			if err := s.judge(d, x, aborted != nil); err != nil {
				t.Errorf("%s %.200s with %.300q was answered %d %.300q: %v", r.Method, r.URL.RequestURI(), x.sent.String(), x.status, x.body.String(), err)
			}
			if aborted != nil {
				panic(aborted)
			}
		}()
		next.ServeHTTP(x, r)
	})
}

// judge says what of an answer is not as openapi.yaml has it.
func (s *server) judge(d *described, x *exchanged, aborted bool) error {
	if x.status == 0 {
		return errors.New("no answer at all")
	}
	media, _, err := mime.ParseMediaType(x.header.Get("Content-Type"))
	if err != nil && (x.body.Len() > 0 || x.header.Get("Content-Type") != "") {
		return fmt.Errorf("Content-Type %q", x.header.Get("Content-Type"))
	}
	if x.op == nil {
		return x.judgeUnknown(d, media)
	}
	a := x.op.answers[x.status]
	if a == nil {
		return errors.New("the status is not described")
	}
	if err := errors.Join(x.judgeHeaders(a), s.judgeLimit(x)); err != nil {
		return err
	}
	schema := a.content[media]
	switch {
	case len(a.content) == 0 && x.body.Len() == 0 && media == "":
	case schema == nil:
		return fmt.Errorf("Content-Type %q is not described", media)
	case x.request.Method == http.MethodHead && x.body.Len() == 0:
	case !aborted:
		if err := d.judgeBody(x, media, schema); err != nil {
			return err
		}
	}
	if x.status >= 400 {
		return x.judgeProblem(media, a.codes)
	}
	seen.Store(x.op.name+" "+strconv.Itoa(x.status), true)
	return errors.Join(x.judgeQuery(), d.judgeRequest(x))
}

// judgeUnknown is for what is no operation: paths and methods that are not
// there.
func (x *exchanged) judgeUnknown(d *described, media string) error {
	if !strings.HasPrefix(x.request.URL.EscapedPath(), "/v1/") {
		return nil
	}
	if media != "application/problem+json" {
		return fmt.Errorf("Content-Type %q", media)
	}
	if x.request.Method != http.MethodHead {
		if err := validate(d.component("Problem"), x.body.Bytes()); err != nil {
			return err
		}
	}
	if (x.status == 405) != (x.header.Get("Allow") != "") {
		return fmt.Errorf("Allow %q", x.header.Get("Allow"))
	}
	return x.judgeProblem(media, []string{"not_found", "method_not_allowed", "uri_too_long"})
}

func (x *exchanged) judgeHeaders(a *answered) error {
	for name, h := range a.headers {
		values := x.header.Values(name)
		switch {
		case len(values) == 0 && h.required:
			return fmt.Errorf("the header %s is missing", name)
		case len(values) > 1:
			return fmt.Errorf("the header %s is there %d times", name, len(values))
		case len(values) == 1:
			var value any = values[0]
			if n, err := strconv.Atoi(values[0]); err == nil && slices.Contains(h.schema.Types.ToStrings(), "integer") {
				value = n
			}
			if err := h.schema.Validate(value); err != nil {
				return fmt.Errorf("the header %s: %w", name, err)
			}
		}
	}
	for _, name := range []string{"Ratelimit", "Ratelimit-Policy", "Retry-After", "Www-Authenticate", "Idempotency-Replayed"} {
		described := slices.ContainsFunc(slices.Collect(maps.Keys(a.headers)), func(n string) bool { return http.CanonicalHeaderKey(n) == name })
		if x.header.Get(name) != "" && !described {
			return fmt.Errorf("the header %s is not described", name)
		}
	}
	return nil
}

var (
	rateState  = regexp.MustCompile(`^"([a-z-]+)";r=(\d+);t=(\d+)$`)
	ratePolicy = regexp.MustCompile(`^"([a-z-]+)";q=(\d+);w=60$`)
)

// judgeLimit holds what answers to a key say of its limits: that of events, if
// there is one, then that of the route's quota.
func (s *server) judgeLimit(x *exchanged) error {
	var want []string
	for _, p := range quotaPolicies() {
		if name := p.name; name != "" && strings.Contains(asText(x.op.node["description"]), "limit `"+name+"`") {
			want = append(want, name)
		}
	}
	states, policies := x.header.Get("Ratelimit"), x.header.Get("Ratelimit-Policy")
	if states == "" && policies == "" {
		return s.judgeNoLimit(x, len(want) > 0)
	}
	var got []string
	list := strings.Split(states, ", ")
	for i, policy := range strings.Split(policies, ", ") {
		p := ratePolicy.FindStringSubmatch(policy)
		if p == nil || i >= len(list) {
			return fmt.Errorf("RateLimit %s, RateLimit-Policy %s", states, policies)
		}
		r := rateState.FindStringSubmatch(list[i])
		if r == nil || r[1] != p[1] {
			return fmt.Errorf("RateLimit %s, RateLimit-Policy %s", states, policies)
		}
		most, _ := strconv.Atoi(p[2])
		left, _ := strconv.Atoi(r[2])
		reset, _ := strconv.Atoi(r[3])
		if most < 1 || left > most || reset > 61 { // a step of a second counts whole
			return fmt.Errorf("RateLimit %s, RateLimit-Policy %s", states, policies)
		}
		got = append(got, r[1])
	}
	if got = slices.DeleteFunc(got, func(name string) bool { return name == "default" }); len(list) > 2 || !slices.Equal(got, want) {
		return fmt.Errorf("RateLimit %s, RateLimit-Policy %s, want those of %v", states, policies, want)
	}
	return nil
}

// judgeNoLimit returns an error if an answer should have said something of the
// limits.
func (s *server) judgeNoLimit(x *exchanged, hasQuota bool) error {
	if x.status >= 400 && x.request.Header.Get(organizationHeader) != "" { // it may be no organization's
		return nil
	}
	if !slices.Contains([]string{"any", "ingest", "read", "manage"}, x.op.scope) || slices.Contains([]int{401, 414, 429, 503}, x.status) {
		return nil
	}
	org, err := s.ownerOf(x.request)
	if err != nil || s.api.limitOf(&org) == 0 && !hasQuota { // the key may have been deleted by this request
		return nil
	}
	return errors.New("nothing is said of the rate limits")
}

// ownerOf is the organization of a request's key.
func (s *server) ownerOf(r *http.Request) (trigger.Organization, error) {
	key := r.Header.Get("X-Api-Key")
	if key == "" {
		key = bearer(r.Header)
	}
	hash, _ := trigger.HashAPIKey(key)
	stored, err := s.store.APIKeyByHash(r.Context(), hash)
	return stored.Organization, err
}

// judgeBody holds a body to its schema: lines and events of streams one by
// one.
func (d *described) judgeBody(x *exchanged, media string, schema *jsonschema.Schema) error {
	content := x.body.Bytes()
	if !utf8.Valid(content) && x.header.Get("Content-Encoding") == "" {
		return errors.New("the body is no UTF-8")
	}
	switch {
	case media == "application/x-ndjson":
		for line := range bytes.Lines(content) {
			if err := validate(d.component("Verdict"), line); err != nil {
				return err
			}
		}
		return nil
	case media == "text/event-stream":
		return d.judgeStream(content)
	case strings.HasSuffix(media, "json"):
		return validate(schema, content)
	}
	return schema.Validate("") // a string, whatever it says
}

// judgeStream reads a stream as browsers do.
func (d *described) judgeStream(content []byte) error {
	whole := bytes.Split(content, []byte("\n\n"))
	for _, message := range whole[:len(whole)-1] { // the last one is empty, or was cut
		id, data := "", []byte(nil)
		for line := range bytes.Lines(append(message, '\n')) {
			name, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "": // a comment
			case "id":
				id = value
			case "data":
				data = append(append(data, value...), '\n')
			default:
				return fmt.Errorf("a field %q in a stream", name)
			}
		}
		if id == "" && data == nil {
			continue
		}
		if err := validate(d.component("InboxEvent"), data); err != nil || !bytes.Contains(data, []byte(`"id":"`+id+`"`)) {
			return fmt.Errorf("the event %q with %q: %w", id, data, err)
		}
	}
	return nil
}

// judgeProblem holds what the schema does not say of a problem.
func (x *exchanged) judgeProblem(media string, codes []string) error {
	if x.request.Method == http.MethodHead || media != "application/problem+json" {
		return nil
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.body.Bytes()))
	if err != nil {
		return err
	}
	p := asObject(v)
	code := asText(p["code"])
	if !slices.Contains(codes, code) {
		return fmt.Errorf("the code %s is not described for it: %v", code, codes)
	}
	return problemFits(x.status, p)
}

// problemFits holds the members of a problem to each other.
func problemFits(status int, p map[string]any) error {
	code, kind := asText(p["code"]), asText(p["type"])
	title, want := codes(code)
	if fmt.Sprint(p["status"]) != strconv.Itoa(status) || status != want || asText(p["title"]) != title {
		return fmt.Errorf("%s is %d, %q", code, want, title)
	}
	if wants := map[string]string{
		"rate_limited": "https://iana.org/assignments/http-problem-types#quota-exceeded",
		"unavailable":  "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
	}[code]; kind != wants && (wants != "" || kind != "/docs/problems#"+code) {
		return fmt.Errorf("the type is %s", kind)
	}
	for _, field := range asList(p["errors"]) {
		pointer, at := asObject(field)["pointer"]
		_, of := asObject(field)["parameter"]
		if at && of || at && asText(pointer) != "#" && !strings.HasPrefix(asText(pointer), "#/") {
			return fmt.Errorf("the error %v", field)
		}
	}
	if internal.MatchString(asText(p["detail"])) {
		return errors.New("it tells of the inside")
	}
	return nil
}

// judgeQuery holds the query of a request that was answered well: what is
// refused nowhere must be described.
func (x *exchanged) judgeQuery() error {
	if x.op.scope == "public" {
		return nil
	}
	for name, values := range x.request.URL.Query() {
		i := slices.IndexFunc(x.op.parameters, func(p parameter) bool { return p.name == name && p.in == "query" })
		if i < 0 {
			return fmt.Errorf("the parameter %q is not described", name)
		}
		p := x.op.parameters[i]
		var value any = strings.ReplaceAll(values[0], " ", "+") // as q.time does
		if n, err := strconv.Atoi(values[0]); err == nil && slices.Contains(p.schema.Types.ToStrings(), "integer") {
			value = n
		}
		if err := p.schema.Validate(value); err != nil {
			return fmt.Errorf("the parameter %q: %w", name, err)
		}
	}
	return nil
}

// judgeRequest holds the body of a request that was answered well.
func (d *described) judgeRequest(x *exchanged) error {
	if len(x.op.requests) == 0 {
		return nil
	}
	if x.sent.Len() == 0 {
		if x.op.required {
			return errors.New("it was taken without a body")
		}
		return nil
	}
	if x.op.name == "POST /v1/events" {
		return d.judgeEvents(x)
	}
	if err := validate(x.op.requests["application/json"].schema, x.sent.Bytes()); err != nil {
		return fmt.Errorf("its body: %w", err)
	}
	return nil
}

// judgeEvents holds those events of a request that were taken.
func (d *described) judgeEvents(x *exchanged) error {
	name := "EventInput"
	f, _ := formOf(x.request.Header)
	switch f {
	case formBinary:
		return nil
	case formStructured, formBatch:
		name = "CloudEvent"
	}
	schema, sent := d.component(name), bytes.TrimLeft(x.sent.Bytes(), jsonSpace)
	parts := [][]byte{sent}
	switch {
	case f == formLines:
		parts, _ = splitLines(sent)
	case f == formBatch || f == formJSON && bytes.HasPrefix(sent, []byte("[")):
		parts, _ = splitArray(sent)
	}
	verdicts := bytes.Split(bytes.TrimSpace(x.body.Bytes()), []byte(`{"index":`))
	for i, part := range parts {
		if len(verdicts) == len(parts)+1 && bytes.Contains(verdicts[i+1], []byte(`"problem":`)) {
			continue
		}
		if err := validate(schema, part); err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
	}
	return nil
}

func validate(schema *jsonschema.Schema, content []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}
