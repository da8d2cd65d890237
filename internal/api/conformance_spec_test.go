package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// described is what openapi.yaml says, ready to hold answers to it.
type described struct {
	root       map[string]any
	operations map[string]*operation // by method and path
	mux        *http.ServeMux        // finds the operation of a request
	compiler   *jsonschema.Compiler
	schemas    map[string]*jsonschema.Schema // by their place in the file
}

// operation is a route as the file has it.
type operation struct {
	name, scope string
	node        map[string]any
	required    bool            // it wants a body
	requests    map[string]body // by media type
	parameters  []parameter
	answers     map[int]*answered
}

// body is what a body must look like.
type body struct {
	at     string         // where in the file
	node   map[string]any // its schema as it stands there
	schema *jsonschema.Schema
}

type parameter struct {
	name, in string
	empty    bool // it may be empty
	schema   *jsonschema.Schema
	node     map[string]any
}

// answered is an answer as the file has it.
type answered struct {
	content map[string]*jsonschema.Schema
	headers map[string]header
	codes   []string // of its problems
}

type header struct {
	required bool
	schema   *jsonschema.Schema
}

// description reads the file, once for all tests.
var description = sync.OnceValue(readDescription)

const described2020 = "https://triggerd.invalid/openapi.json"

func readDescription() *described {
	text, err := files.ReadFile("openapi.yaml")
	must(err)
	var read any
	must(yaml.Unmarshal(text, &read))
	asJSON, err := json.Marshal(read)
	must(err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	must(err)
	d := &described{
		root: doc.(map[string]any), operations: map[string]*operation{}, mux: http.NewServeMux(),
		compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{},
	}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	must(d.compiler.AddResource(described2020, doc))
	for name := range asObject(asObject(d.root["components"])["schemas"]) {
		d.schema("/components/schemas/" + name)
	}
	for path, item := range asObject(d.root["paths"]) {
		for method, node := range asObject(item) {
			if method == "parameters" {
				continue
			}
			at := "/paths/" + escaped(path) + "/" + method
			o := d.operation(at, asObject(node))
			o.name = strings.ToUpper(method) + " " + path
			for i := range asList(asObject(item)["parameters"]) {
				o.parameters = append(o.parameters, d.parameter("/paths/"+escaped(path)+"/parameters/"+strconv.Itoa(i)))
			}
			d.operations[o.name] = o
			d.mux.Handle(o.name, http.NotFoundHandler())
		}
	}
	return d
}

// must ends the test run: without its description there is nothing to test.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func asObject(node any) map[string]any { m, _ := node.(map[string]any); return m }

func asList(node any) []any { l, _ := node.([]any); return l }

func asText(node any) string { s, _ := node.(string); return s }

// escaped is a member's name in a JSON Pointer.
func escaped(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// follow gives what stands at a place of the file, and where that is once all
// references are followed.
func (d *described) follow(at string) (string, map[string]any) {
	var node any = d.root
	for part := range strings.SplitSeq(at[1:], "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if i, err := strconv.Atoi(part); err == nil && asObject(node) == nil {
			node = asList(node)[i]
			continue
		}
		node = asObject(node)[part]
	}
	if to, ok := strings.CutPrefix(asText(asObject(node)["$ref"]), "#"); ok {
		return d.follow(to)
	}
	return at, asObject(node)
}

// schema compiles the schema at a place of the file.
func (d *described) schema(at string) *jsonschema.Schema {
	at, _ = d.follow(at)
	if s := d.schemas[at]; s != nil {
		return s
	}
	parts := strings.Split(at, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	s, err := d.compiler.Compile(described2020 + "#" + strings.Join(parts, "/"))
	must(err)
	d.schemas[at] = s
	return s
}

func (d *described) operation(at string, node map[string]any) *operation {
	o := &operation{node: node, scope: asText(node["x-scope"]), requests: map[string]body{}, answers: map[int]*answered{}}
	for i := range asList(node["parameters"]) {
		o.parameters = append(o.parameters, d.parameter(at+"/parameters/"+strconv.Itoa(i)))
	}
	if request := asObject(node["requestBody"]); request != nil {
		o.required, _ = request["required"].(bool)
		for media := range asObject(request["content"]) {
			place, schema := d.follow(at + "/requestBody/content/" + escaped(media) + "/schema")
			o.requests[media] = body{place, schema, d.schema(place)}
		}
	}
	for status := range asObject(node["responses"]) {
		n, err := strconv.Atoi(status)
		must(err)
		o.answers[n] = d.answer(at + "/responses/" + status)
	}
	return o
}

func (d *described) parameter(at string) parameter {
	at, node := d.follow(at)
	_, schema := d.follow(at + "/schema")
	empty, _ := node["allowEmptyValue"].(bool)
	return parameter{asText(node["name"]), asText(node["in"]), empty, d.schema(at + "/schema"), schema}
}

func (d *described) answer(at string) *answered {
	at, node := d.follow(at)
	a := &answered{content: map[string]*jsonschema.Schema{}, headers: map[string]header{}}
	for media, content := range asObject(node["content"]) {
		a.content[media] = d.schema(at + "/content/" + escaped(media) + "/schema")
		for name := range asObject(asObject(content)["examples"]) {
			_, example := d.follow(at + "/content/" + escaped(media) + "/examples/" + escaped(name))
			if code := asText(asObject(example["value"])["code"]); code != "" && media == "application/problem+json" {
				a.codes = append(a.codes, code)
			}
		}
	}
	for name := range asObject(node["headers"]) {
		place, node := d.follow(at + "/headers/" + escaped(name))
		required, _ := node["required"].(bool)
		a.headers[name] = header{required, d.schema(place + "/schema")}
	}
	return a
}

// of finds the operation of a request; nil if there is none.
func (d *described) of(r *http.Request) *operation {
	_, pattern := d.mux.Handler(r)
	return d.operations[pattern]
}

// component is a schema by its name.
func (d *described) component(name string) *jsonschema.Schema {
	return d.schemas["/components/schemas/"+name]
}

// withQuery are the parameters of an operation that stand in the query.
func (o *operation) withQuery() []parameter {
	return slices.DeleteFunc(slices.Clone(o.parameters), func(p parameter) bool { return p.in != "query" })
}

// example is a body that the operation takes; "" if it takes none.
func (o *operation) example() string {
	content := asObject(asObject(asObject(o.node["requestBody"])["content"])["application/json"])
	example := content["example"]
	for _, name := range slices.Sorted(maps.Keys(asObject(content["examples"]))) {
		if example == nil {
			example = asObject(asObject(content["examples"])[name])["value"]
		}
	}
	if example == nil {
		return ""
	}
	return string(marshal(example))
}

// filled is the path of a route with what nobody has in each of its parameters.
func filled(path string) string {
	path = strings.NewReplacer("{event_id}", someEvent, "{name}", "user.created", "{file}", "docs.css").Replace(path)
	return regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "999999999")
}

// someEvent is an id that could be an event's.
const someEvent = "01a201d9-e350-7ff3-8000-2e533c0c7570"

// TestDescriptionIsWhole holds openapi.yaml and the routes to each other, both
// ways.
func TestDescriptionIsWhole(t *testing.T) {
	t.Parallel()
	d := description()
	names := map[scope]string{
		scopePublic: "public", scopeKey: "any", scopeIngest: "ingest", scopeRead: "read", scopeManage: "manage", scopeAdmin: "operator", scopeMetrics: "operator",
	}
	served := map[string]bool{}
	for _, rt := range new(API).routes() {
		name := rt.method + " " + rt.path
		if !isDescribed(rt.path) {
			continue
		}
		served[name] = true
		switch o := d.operations[name]; {
		case o == nil:
			t.Errorf("%s is served, and not in openapi.yaml", name)
		case o.scope != names[rt.scope]:
			t.Errorf("%s: x-scope is %q in openapi.yaml, and its scope is %q", name, o.scope, names[rt.scope])
		}
	}
	for name := range d.operations {
		if !served[name] {
			t.Errorf("%s is in openapi.yaml, and not served", name)
		}
	}
}

// Each example of the file is one of what it is an example of.
func TestExamplesOfDescription(t *testing.T) {
	t.Parallel()
	d := readDescription() // of its own, since it compiles more
	checked := 0
	var walk func(at string, node any)
	walk = func(at string, node any) {
		for name, child := range asObject(node) {
			walk(at+"/"+escaped(name), child)
		}
		for i, child := range asList(node) {
			walk(at+"/"+strconv.Itoa(i), child)
		}
		n := asObject(node)
		if _, ok := n["schema"].(map[string]any); !ok || strings.Contains(at, "/example") {
			return
		}
		examples := map[string]any{}
		if example, ok := n["example"]; ok {
			examples["example"] = example
		}
		for name := range asObject(n["examples"]) {
			_, example := d.follow(at + "/examples/" + escaped(name))
			examples[name] = example["value"]
		}
		for name, example := range examples {
			checked++
			if err := d.schema(at + "/schema").Validate(example); err != nil {
				t.Errorf("%s, %s: %v", at, name, err)
			}
		}
	}
	walk("", map[string]any{"paths": d.root["paths"], "webhooks": d.root["webhooks"], "components": d.root["components"]})
	if checked < 100 {
		t.Errorf("only %d examples were found", checked)
	}
}
