package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// abuse is a request that nobody should send, written to the connection as it
// is, and the statuses that it may get.
type abuse struct {
	name, request string
	cut           bool // the client ends the connection after it
	statuses      []int
}

// TestAbuse sends what nobody should send. Each gets exactly one answer, of
// the status that was promised; it is JSON, or net/http's own plain one.
func TestAbuse(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		accepted := 0
		for _, list := range [][]abuse{badBodies(key), cutBodies(key), badHTTP(), badFraming(key), badTargets(key), badHeaders(key), injections(key)} {
			for _, tt := range list {
				s.clock.Advance(minute) // the wrong keys are not to hide each other
				r := s.raw(t, tt.name, tt.request, tt.cut)
				if !slices.Contains(tt.statuses, r.status) {
					t.Errorf("%s: %d %.300s, want %v", tt.name, r.status, r.body, tt.statuses)
				}
				judgeAbused(t, tt, r)
				if strings.Contains(r.body, `"accepted"`) {
					accepted++
				}
			}
		}
		if page := s.inbox(t, key, "?limit=100"); page.Count != min(accepted, 100) || accepted == 0 {
			t.Errorf("%d events in the inbox, want %d", page.Count, accepted)
		}
		s.post(t, key, `{"type":"t","payload":1}`).wants(t, "afterwards", 200, "accepted")
		if left := s.api.used.used.Load(); left != 0 {
			t.Errorf("%d bytes of bodies are still counted", left)
		}
		checkLog(t, s.log.String(), -1, key)
	})
}

// judgeAbused knows what net/http answers by itself, before any handler.
func judgeAbused(t *testing.T, tt abuse, r reply) {
	t.Helper()
	plain := strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") && r.header.Get("Connection") == "close" &&
		slices.Contains([]int{400, 431, 505}, r.status) && strings.HasPrefix(r.body, fmt.Sprint(r.status)+" ") ||
		r.status == 501 && r.body == "Unsupported transfer encoding"
	empty := r.body == "" && (r.status == 417 || strings.HasPrefix(tt.request, "OPTIONS * "))
	if plain && !internal.MatchString(r.body) || empty {
		return
	}
	r.judge(t, tt.request[:min(len(tt.request), 100)])
}

// rawRequest writes a request with a key; each header is "Name: value".
func rawRequest(method, target, key, body string, headers ...string) string {
	head := method + " " + target + " HTTP/1.1\r\nHost: example.com\r\n"
	if key != "" {
		head += "X-Api-Key: " + key + "\r\n"
	}
	for _, line := range headers {
		head += line + "\r\n"
	}
	if method == "POST" && !strings.Contains(strings.Join(headers, "\n"), "Transfer-Encoding") {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return head + "\r\n" + body
}

var postRoutes = []string{"/api/events", "/api/keys/generate", "/api/webhook/register"}

// badBodies are bodies that no route takes.
func badBodies(key string) (list []abuse) {
	good := map[string]string{
		"/api/events": `"type":"t","payload":1`, "/api/keys/generate": `"organization_name":"O"`, "/api/webhook/register": `"url":"https://example.com/"`,
	}
	for _, path := range postRoutes {
		members := good[path]
		for name, body := range map[string]string{
			"empty": "", "white space": " \r\n\t ", "a brace": "{", "two braces": "{}}", "quotes": `"`, "text": "hello", "form": "type=t&payload=1",
			"XML": `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`, "YAML": "type: t\npayload: 1",
			"binary": "\x00\x01\x02\x80\xff", "gzip": "\x1f\x8b\x08\x00\x00\x00\x00\x00", "NaN": "NaN", "undefined": "undefined", "array": "[1]",
			"null": "null", "number": "1e999999", "single quotes": "{'type':'t','payload':1}", "comment": "{" + members + "/* */}",
			"line comment": "{" + members + "}//", "trailing comma": "{" + members + ",}", "two objects": "{" + members + "}{" + members + "}",
			"NUL after": "{" + members + "}\x00", "NUL in a string": "{" + members + ",\"x\":\"\x00\"}", "byte order mark": "\ufeff{" + members + "}",
			"UTF-16": "\xff\xfe{\x00}\x00", "invalid UTF-8": "{" + members + ",\"x\":\"\xc3\x28\"}",
			"surrogate in UTF-8": "{" + members + ",\"x\":\"\xed\xa0\x80\"}",
			"overlong UTF-8":     "{" + members + ",\"x\":\"\xc0\xaf\"}", "duplicates": "{" + members + "," + members + "}",
			"escaped duplicates": "{" + members + "," + strings.NewReplacer("type", `typ\u0065`, "name", `nam\u0065`, "url", `ur\u006c`).Replace(members) + "}",
			"raw newline":        "{" + members + ",\"x\":\"\n\"}", "bad escape": "{" + members + `,"x":"\x"}`, "short escape": "{" + members + `,"x":"\u12"}`,
			"leading zero": "{" + members + `,"x":01}`, "plus": "{" + members + `,"x":+1}`,
			"dot": "{" + members + `,"x":1.}`, "hex": "{" + members + `,"x":0x1}`,
			"65 levels":      "{" + members + `,"x":` + nested(64, "[", "]") + "}",
			"65 objects":     "{" + members + `,"x":` + nested(64, `{"a":`, "") + "1" + nested(64, "", "}") + "}",
			"100,000 levels": "{" + members + `,"x":` + nested(100_000, "[", "]") + "}", "100,000 open": strings.Repeat(`{"a":`, 100_000),
			"100,000 closed": strings.Repeat("]", 100_000), "a million quotes": strings.Repeat(`"`, 1_000_000),
			"a million colons": strings.Repeat(":", 1_000_000),
			"prototype":        `{"__proto__":{"type":"t","payload":1,"organization_name":"O","url":"https://example.com/"}}`,
		} {
			list = append(list, abuse{path + " " + name, rawRequest("POST", path, key, body), false, []int{400}})
		}
		for name, extra := range map[string]string{
			"64 levels": `"x":` + nested(63, "[", "]"), "wide": strings.Repeat(`"x":1,`, 100_000) + `"x":1`, "huge number": `"x":1e999999,"y":-1e-999999`,
			"long number": `"x":` + strings.Repeat("9", 100_000), "lone surrogates": `"x":"\ud800","\udfff":1`, "escaped NUL": `"x":"\u0000","\u0000":1`,
			"long name": `"` + strings.Repeat("n", 500_000) + `":1`, "empty name": `"":{}`,
			"privileged": `"id":1,"organization_id":1,"tier":"free","is_admin":true`,
		} {
			list = append(list, abuse{path + " " + name, rawRequest("POST", path, key, "{"+members+","+extra+"}"), false, []int{200}})
		}
		list = append(list, abuse{path + " over the limit", rawRequest("POST", path, key, strings.Repeat(" ", 1<<20+1)), false, []int{413}})
	}
	return list
}

// cutBodies end before they should.
func cutBodies(key string) (list []abuse) {
	const body = `{"type":"t","payload":1,"dedup_id":"cut","organization_name":"O","url":"https://example.com/"}`
	for _, path := range postRoutes {
		head := rawRequest("POST", path, key, "", "Transfer-Encoding: chunked")
		sized := strings.Replace(head, "Transfer-Encoding: chunked", "Content-Length: 1000", 1)
		for name, request := range map[string]string{
			"no body": sized, "part of the body": sized + body, "one byte less": sized + strings.Repeat(" ", 999), "no chunk": head,
			"no last chunk": head + fmt.Sprintf("%x\r\n%s\r\n", len(body), body), "part of a chunk": head + "ff\r\n" + body,
			"part of a chunk's size": head + "f", "no end of a chunk": head + fmt.Sprintf("%x\r\n%s", len(body), body),
			"no end of the last chunk": head + fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(body), body),
		} {
			list = append(list, abuse{path + " " + name, request, true, []int{400}})
		}
	}
	return append(list,
		abuse{"cut, without a key", rawRequest("POST", "/api/events", "", "", "Transfer-Encoding: chunked"), true, []int{401}},
		abuse{"cut, of another type", rawRequest("POST", "/api/events", key, "",
			"Transfer-Encoding: chunked", "Content-Type: text/plain"), true, []int{415}},
		abuse{"cut headers", "POST /api/events HTTP/1.1\r\nHost: example.com\r\nX-Api-K", true, []int{400}},
		abuse{"cut request line", "POST /api/ev", true, []int{400}})
}
