package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// minimal is what every CloudEvent has; event gives it more members.
const minimal = `"specversion":"1.0","id":"1","source":"/s","type":"t"`

func cloud(more string) string { return `{` + minimal + `,` + more + `}` }

func TestParseCloudEvent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for body, want := range map[string]trigger.Event{
		`{` + minimal + `}`:                   {DedupID: "/s 1", Payload: []byte("null")},
		cloud(`"data":{ "a" : [1] , "a":2 }`): {DedupID: "/s 1", Payload: []byte(`{ "a" : [1] , "a":2 }`)},
		cloud(`"data":null`):                  {DedupID: "/s 1", Payload: []byte("null")},
		cloud(`"d\u0061ta":"<x/>"`):           {DedupID: "/s 1", Payload: []byte(`"<x/>"`)},
		cloud(`"data":1,"data_base64":null`):  {DedupID: "/s 1", Payload: []byte(`1`)},
		cloud(`"data":"\ud800\u0000"`):        {DedupID: "/s 1", Payload: []byte(`"\ud800\u0000"`)},
		cloud(`"traceparent":"` + goodTrace + `"`): {
			DedupID: "/s 1", Payload: []byte("null"), Traceparent: goodTrace,
			Cloud: &trigger.CloudEvent{Attributes: []byte(cloud(`"traceparent":"` + goodTrace + `"`))},
		},
		cloud(`"traceparent":"00-what"`): {
			DedupID: "/s 1", Payload: []byte("null"),
			Cloud: &trigger.CloudEvent{Attributes: []byte(cloud(`"traceparent":"00-what"`))},
		},
		cloud(`"data_base64":"3q2+7w=="`): {
			DedupID: "/s 1", Payload: []byte(`"3q2+7w=="`),
			Cloud: &trigger.CloudEvent{Attributes: []byte(`{` + minimal + `}`), Base64: true},
		},
		cloud(`"data_base64":"\/\/8="`): {
			DedupID: "/s 1", Payload: []byte(`"\/\/8="`),
			Cloud: &trigger.CloudEvent{Attributes: []byte(`{` + minimal + `}`), Base64: true},
		},
		cloud(`"data_base64":""`): {
			DedupID: "/s 1", Payload: []byte(`""`),
			Cloud: &trigger.CloudEvent{Attributes: []byte(`{` + minimal + `}`), Base64: true},
		},
		// The required ones first, the others as they came, null left out.
		" { \"z\" : -7 , \"type\" : \"t\",\"a\":true,\"subject\":null,\"id\":\"\\u0031\",\"data\":0,\n\"time\":\"2026-01-02t03:04:05+01:00\"," +
			`"source":"\/s","specversion":"1\u002e0","e":"","b":false,"i":2147483647,"dataschema":"a b"}`: {
			DedupID: "/s 1", Payload: []byte("0"), Cloud: &trigger.CloudEvent{Attributes: []byte(
				`{"specversion":"1\u002e0","id":"\u0031","source":"\/s","type":"t","z":-7,"a":true,` +
					`"time":"2026-01-02t03:04:05+01:00","e":"","b":false,"i":2147483647,"dataschema":"a b"}`)},
		},
		`{"specversion":"1.0","id":"a b","source":"é:?#[%zz","type":"t"}`: {
			DedupID: "é:?#[%zz a b", Payload: []byte("null"),
			Cloud: &trigger.CloudEvent{Attributes: []byte(`{"specversion":"1.0","id":"a b","source":"é:?#[%zz","type":"t"}`)},
		},
		`{"specversion":"1.0","id":"` + long + `","source":"/s","type":"t"}`: {
			DedupID: "sha256:b0e3ca93eb50a315842ac91edffa37dd664ae02992afc00763a80d015ff9a01d", Payload: []byte("null"),
			Cloud: &trigger.CloudEvent{Attributes: []byte(`{"specversion":"1.0","id":"` + long + `","source":"/s","type":"t"}`)},
		},
	} {
		want.OrganizationID, want.Type = 7, "t"
		if want.Cloud == nil {
			want.Cloud = &trigger.CloudEvent{Attributes: []byte(`{` + minimal + `}`)}
		}
		event, err := parseCloudEvent(7, []byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if diff := cmp.Diff(want, *event); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

// badCloudEvents are bodies with what must be said of them.
func badCloudEvents() map[string]wrong {
	const invalid = trigger.Invalid
	without := func(member string) string {
		return `{` + strings.Trim(strings.Replace(minimal, member, "", 1), ",") + `}`
	}
	bodies := map[string]wrong{
		"":                                      {trigger.Malformed, "not valid JSON", ""},
		"[" + cloud(`"a":1`):                    {trigger.Malformed, "not valid JSON", ""},
		"[{" + minimal + "}]":                   {trigger.Malformed, "must be a JSON object", ""},
		"1":                                     {trigger.Malformed, "must be a JSON object", ""},
		cloud("\"a\":\"\xff\""):                 {trigger.Malformed, "must be valid UTF-8", ""},
		cloud(`"data":` + nested(64, "[", "]")): {trigger.Malformed, "nested at most 64 levels deep", ""},
		`{}`:                                    {invalid, "specversion is missing", "#/specversion"},
		without(`"id":"1",`):                    {invalid, "id is missing", "#/id"},
		without(`"source":"/s",`):               {invalid, "source is missing", "#/source"},
		without(`,"type":"t"`):                  {invalid, "type is missing", "#/type"},
		strings.Replace(cloud(`"a":1`), `"1"`, `null`, 1):                           {invalid, "id is missing", "#/id"},
		strings.Replace(cloud(`"a":1`), `"1"`, `""`, 1):                             {invalid, "id must not be empty", "#/id"},
		strings.Replace(cloud(`"a":1`), `"1"`, `1`, 1):                              {invalid, "id must be a string", "#/id"},
		strings.Replace(cloud(`"a":1`), `"1"`, `"\n"`, 1):                           {invalid, "id must not have control characters", "#/id"},
		strings.Replace(cloud(`"a":1`), `"1"`, `"\u0000"`, 1):                       {invalid, "id must not have control characters", "#/id"},
		strings.Replace(cloud(`"a":1`), `"1"`, `"\udc00\ud800"`, 1):                 {invalid, "id must not have a lone surrogate", "#/id"},
		strings.Replace(cloud(`"a":1`), `"/s"`, `"a b"`, 1):                         {invalid, "which has no spaces", "#/source"},
		strings.Replace(cloud(`"a":1`), `"/s"`, `true`, 1):                          {invalid, "source must be a string", "#/source"},
		strings.Replace(cloud(`"a":1`), `1.0`, `1.1`, 1):                            {invalid, "specversion must be 1.0", "#/specversion"},
		strings.Replace(cloud(`"a":1`), `"1.0"`, `1.0`, 1):                          {invalid, "specversion must be a string", "#/specversion"},
		strings.Replace(cloud(`"a":1`), `"t"`, `"\u0085"`, 1):                       {invalid, "type must not have control characters", "#/type"},
		strings.Replace(cloud(`"a":1`), `"t"`, quoted(strings.Repeat("t", 256)), 1): {invalid, "type must have at most 255 bytes", "#/type"},

		cloud(`"id":"2"`):                                   {invalid, "id must appear only once", "#/id"},
		cloud(`"a":1,"\u0061":1`):                           {invalid, "a must appear only once", "#/a"},
		cloud(`"a":null,"a":null`):                          {invalid, "a must appear only once", "#/a"},
		cloud(`"data":1,"data":1`):                          {invalid, "data must appear only once", "#/data"},
		cloud(`"data":null,"data":null`):                    {invalid, "data must appear only once", "#/data"},
		cloud(`"data_base64":null,"data_base64":""`):        {invalid, "data_base64 must appear only once", "#/data_base64"},
		cloud(`"data":1,"data_base64":""`):                  {invalid, "must not appear together with data", "#/data_base64"},
		cloud(`"data_base64":"","data":null`):               {invalid, "must not appear together with data", "#/data_base64"},
		cloud(`"data_base64":1`):                            {invalid, "must be a base64 string", "#/data_base64"},
		cloud(`"data_base64":{}`):                           {invalid, "must be a base64 string", "#/data_base64"},
		cloud(`"data_base64":"3q2-7w=="`):                   {invalid, "must be a base64 string", "#/data_base64"},
		cloud(`"data_base64":"3q2+7w"`):                     {invalid, "must be a base64 string", "#/data_base64"},
		cloud(`"data_base64":"3q2+\n7w=="`):                 {invalid, "must be a base64 string", "#/data_base64"},
		cloud(`"Subject":"x"`):                              {invalid, `"Subject" is not a valid attribute name`, "#/Subject"},
		cloud(`"a_b":1`):                                    {invalid, `"a_b" is not a valid attribute name`, "#/a_b"},
		cloud(`"é/":1`):                                     {invalid, `"é/" is not a valid attribute name`, "#/%C3%A9~1"},
		cloud(`"":null`):                                    {invalid, `"" is not a valid attribute name`, "#/"},
		cloud(quoted(strings.Repeat("a", 65)) + `:1`):       {invalid, "want at most 64 bytes", "#/" + strings.Repeat("a", 65)},
		cloud(quoted(strings.Repeat("a", 300)) + `:1`):      {invalid, "want at most 64 bytes", "#"},
		cloud(`"subject":""`):                               {invalid, "subject must not be empty", "#/subject"},
		cloud(`"subject":7`):                                {invalid, "subject must be a string", "#/subject"},
		cloud(`"datacontenttype":{}`):                       {invalid, "datacontenttype must be a string", "#/datacontenttype"},
		cloud(`"time":"2026-01-02"`):                        {invalid, "time must be an RFC 3339 time", "#/time"},
		cloud(`"time":1767322800`):                          {invalid, "time must be a string", "#/time"},
		cloud(`"a":"\ud800"`):                               {invalid, "a must not have a lone surrogate", "#/a"},
		cloud(`"a":"\u0000"`):                               {invalid, "a must not have control characters", "#/a"},
		cloud(`"a":"\u009f"`):                               {invalid, "a must not have control characters", "#/a"},
		cloud(`"a":[]`):                                     {invalid, "a must be a string, an integer or a boolean", "#/a"},
		cloud(`"a":{"b":1}`):                                {invalid, "a must be a string, an integer or a boolean", "#/a"},
		cloud(`"a":` + quoted(strings.Repeat("x", 17<<10))): {invalid, "at most 16384 bytes in total", ""},
		cloud(`"a":null` + manyAttributes(3000)):            {invalid, "at most 16384 bytes in total", ""},
	}
	for _, number := range []string{"1.0", "1e3", "2147483648", "-2147483649", "9007199254740993", "1e400"} {
		bodies[cloud(`"a":`+number)] = wrong{invalid, "a must be a 32-bit integer", "#/a"}
	}
	return bodies
}

// manyAttributes gives n further members, which count although they are null.
func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"a%05d":null`, i)
	}
	return b.String()
}

func TestParseCloudEventRefuses(t *testing.T) {
	t.Parallel()
	for body, want := range badCloudEvents() {
		event, err := parseCloudEvent(7, []byte(body))
		if event != nil {
			t.Errorf("%.300s: %+v", body, event)
		}
		want.check(t, body, err)
		checkRefusal(t, err)
	}
}

// The object of the attributes may have 16 KiB, whatever else the event has.
func TestParseCloudEventSize(t *testing.T) {
	t.Parallel()
	fill := strings.Repeat("x", 16<<10-len(cloud(`"a":""`)))
	data := `, "data":[ ` + ones(20_000, ",") + `]`
	event, err := parseCloudEvent(1, []byte(cloud(`"a":"`+fill+`"`+data)))
	if err != nil || len(event.Cloud.Attributes) != 16<<10 {
		t.Error(err)
	}
	if _, err := parseCloudEvent(1, []byte(cloud(`"a":"`+fill+`x"`+data))); trigger.KindOf(err) != trigger.Invalid {
		t.Error(err)
	}
}

func TestCloudDedupID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ source, id, want string }{
		{"/s", "1", "/s 1"},
		{"/s", strings.Repeat("x", 252), "/s " + strings.Repeat("x", 252)},
		{"/s", strings.Repeat("x", 253), "sha256:27d42078f371e18079f00dc840f6a8d21ef2300b8e8d098b23d36fe7a35dc980"},
	} {
		if got := cloudDedupID(tt.source, tt.id); got != tt.want {
			t.Errorf("%s", got)
		}
	}
}

// anyAttributes draws attributes as they may come: names with JSON values.
func anyAttributes(t *rapid.T) map[string]string {
	names := rapid.StringMatching(`[a-z0-9]{1,20}`).Filter(func(name string) bool {
		switch name {
		case "data", "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "traceparent":
			return false
		}
		return true
	})
	values := rapid.OneOf(
		rapid.SampledFrom([]string{"true", "false", "0", "-1", `""`, `"\u00e9\/"`, `"\ud83d\ude00"`}),
		rapid.Map(anyText(), quoted),
	)
	all := rapid.MapOfN(names, values, 0, 10).Draw(t, "extensions")
	all["specversion"] = `"1.0"`
	all["id"] = quoted(anyText().Draw(t, "id"))
	all["source"] = quoted(rapid.StringMatching(`[!-~é€😀]{1,200}`).Draw(t, "source"))
	all["type"] = quoted(anyText().Draw(t, "type"))
	if rapid.Bool().Draw(t, "has time") {
		all["time"] = `"2026-01-02T03:04:05.678+01:00"`
	}
	return all
}

// again gives a CloudEvent's own form back, as deliveries have it.
func again(event *trigger.Event) []byte {
	b := strings.TrimSuffix(string(event.Cloud.Attributes), "}")
	member := `,"data":`
	if event.Cloud.Base64 {
		member = `,"data_base64":`
	}
	return []byte(b + member + string(event.Payload) + "}")
}

func TestParseCloudEventRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		attributes, payload := anyAttributes(t), anyJSON().Draw(t, "payload")
		members := []string{`"data":` + payload}
		for name, value := range attributes {
			members = append(members, anySpace().Draw(t, "space")+quoted(name)+` : `+value)
		}
		body := "{" + strings.Join(rapid.Permutation(members).Draw(t, "order"), ",") + "}"
		event, err := parseCloudEvent(1, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(event.Cloud.Attributes, &got); err != nil || len(got) != len(attributes) {
			t.Fatalf("%s %v", event.Cloud.Attributes, err)
		}
		for name, value := range attributes {
			if string(got[name]) != value {
				t.Fatalf("%s: %s, want %s", name, got[name], value)
			}
		}
		if string(event.Payload) != payload || quoted(event.Type) != attributes["type"] {
			t.Fatalf("%+v", event)
		}
		second, err := parseCloudEvent(1, again(event))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(event, second); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Two events are the same for deduplication exactly if source and id are.
func TestCloudDedupIDTellsApart(t *testing.T) {
	t.Parallel()
	source := rapid.StringMatching(`[a1é:]{1,4}|[a]{250,256}`)
	id := rapid.StringMatching(`[a1é: ]{1,4}|[a]{250,256}`)
	rapid.Check(t, func(t *rapid.T) {
		s1, s2 := source.Draw(t, "source"), source.Draw(t, "other source")
		id1, id2 := id.Draw(t, "id"), id.Draw(t, "other id")
		first, second := cloudDedupID(s1, id1), cloudDedupID(s2, id2)
		if (first == second) != (s1 == s2 && id1 == id2) || len(first) > trigger.MaxDedupID {
			t.Fatalf("%q %q", first, second)
		}
	})
}

func BenchmarkParseCloudEvent(b *testing.B) {
	body := []byte(cloud(`"time":"2026-01-02T03:04:05Z","subject":"4711","datacontenttype":"application/json","data":{"total":"12.50"}`))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseCloudEvent(1, body); err != nil {
			b.Fatal(err)
		}
	}
}
