package api

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// abuse is what nobody should send, written to a connection as it is, and the
// statuses of the answers to it: one, unless requests follow each other on the
// connection.
type abuse struct {
	name, request string
	cut           bool // the client ends its half of the connection after it
	statuses      []int
}

func sent(name, request string, statuses ...int) abuse {
	return abuse{name, request, false, statuses}
}

func cutOff(name, request string, status int) abuse {
	return abuse{name, request, true, []int{status}}
}

// abuses is the table of them all. other is the key of another organization,
// and of the only events that hold secret.
func abuses(key, other string) [][]abuse {
	return [][]abuse{
		badBodies(key), cutBodies(key), // what is sent
		badLines(), badFraming(key), oddFraming(key), pipelines(key), // where requests begin and end
		badTargets(key), badHeaders(key), expectations(key), trailers(key),
		badKeys(key), intrusions(key, other), injections(key), // who asks, and for what
	}
}

// secret is what only one organization has.
const secret = "only theirs"

// TestAbuse sends what nobody should send, to a server with all its limits.
// Each request gets exactly one answer, within 10 s, of the status that was
// promised: JSON, or what net/http answers by itself, and no word of the
// inside. The server goes on, and has stored what it said that it stored.
func TestAbuse(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key, other := s.newKey(t, "enterprise"), s.newKey(t, "enterprise")
		s.accept(t, other, `{"type":"t","payload":"`+secret+`","dedup_id":"theirs"}`)
		stored := map[string]int{"events": s.rows(t, "events"), "webhooks": s.rows(t, "webhooks"), "organizations": s.rows(t, "organizations")}
		for _, list := range abuses(key, other) {
			for _, tt := range list {
				s.clock.Advance(minute) // the wrong keys are not to hide each other
				answers, continues := s.exchange(t, tt.name, tt.request, tt.cut, len(tt.statuses))
				for i, r := range answers {
					tt.judge(t, i, r)
					switch {
					case strings.HasPrefix(r.body, `{"status":"accepted"`):
						stored["events"]++
					case strings.HasPrefix(r.body, `{"status":"registered"`):
						stored["webhooks"]++
					case strings.HasPrefix(r.body, `{"api-key"`):
						stored["organizations"]++
					}
				}
				if goesOn := strings.Contains(strings.ToLower(tt.request), "expect: 100-continue"); continues > 1 || continues > 0 && (!goesOn || answers[0].status != 200) {
					t.Errorf("%s: told %d times to go on", tt.name, continues)
				}
			}
		}
		for table, n := range stored {
			if got := s.rows(t, table); got != n {
				t.Errorf("%d rows in %s, and the answers said %d", got, table, n)
			}
		}
		s.accept(t, key, `{"type":"t","payload":1}`)
		if left := s.api.used.inUse(); left != 0 {
			t.Errorf("%d bytes of bodies are still counted", left)
		}
		checkLog(t, s.log.String(), -1, key, other, secret)
	})
}

// judge holds what is true of each answer, of which this is the i-th, from 0.
// It knows what net/http answers by itself, before any handler: plain text, and
// 501 and 505, which are the only ones from 500 on.
func (tt abuse) judge(t *testing.T, i int, r reply) {
	t.Helper()
	if r.status != tt.statuses[i] || strings.Contains(r.body, secret) {
		t.Errorf("%s: answer %d is %d %.300s, want %d", tt.name, i, r.status, r.body, tt.statuses[i])
	}
	plain := strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") && slices.Contains([]int{400, 431, 505}, r.status) &&
		strings.HasPrefix(r.body, fmt.Sprint(r.status)+" ") || r.status == 501 && r.body == "Unsupported transfer encoding"
	empty := r.body == "" && (r.status == 417 || strings.HasPrefix(tt.request, "OPTIONS * "))
	switch {
	case plain && r.header.Get("Connection") == "close" && !internal.MatchString(r.body), empty:
	case r.status >= 500:
		t.Errorf("%s: answer %d is %d %.300s", tt.name, i, r.status, r.body)
	default:
		line, _, _ := strings.Cut(tt.request, "\r\n")
		r.judge(t, fmt.Sprintf("%.100s (%s)", line, tt.name))
	}
}

// rows counts what is stored in a table.
func (s *server) rows(t *testing.T, table string) (n int) {
	t.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(s.db.Options.DataDir, "triggerd.db")+"?mode=ro"
	if s.db.IsPostgres() {
		driver, source, table = "pgx", s.db.Options.PostgresURL, "triggerd."+table
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// rawRequest writes a request with a key; each header is "Name: value".
func rawRequest(method, target, key, body string, headers ...string) string {
	head := method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n"
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
			list = append(list, sent(path+" "+name, rawRequest("POST", path, key, body), 400))
		}
		for name, extra := range map[string]string{
			"64 levels": `"x":` + nested(63, "[", "]"), "wide": strings.Repeat(`"x":1,`, 100_000) + `"x":1`, "huge number": `"x":1e999999,"y":-1e-999999`,
			"long number": `"x":` + strings.Repeat("9", 100_000), "lone surrogates": `"x":"\ud800","\udfff":1`, "escaped NUL": `"x":"\u0000","\u0000":1`,
			"long name": `"` + strings.Repeat("n", 500_000) + `":1`, "empty name": `"":{}`,
			"privileged": `"id":1,"organization_id":1,"tier":"free","is_admin":true`,
		} {
			list = append(list, sent(path+" "+name, rawRequest("POST", path, key, "{"+members+","+extra+"}"), 200))
		}
		list = append(list, sent(path+" over the limit", rawRequest("POST", path, key, strings.Repeat(" ", 1<<20+1)), 413))
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
			list = append(list, cutOff(path+" "+name, request, 400))
		}
	}
	return append(list,
		cutOff("cut, without a key", rawRequest("POST", "/api/events", "", "", "Transfer-Encoding: chunked"), 401),
		cutOff("cut, of another type", rawRequest("POST", "/api/events", key, "",
			"Transfer-Encoding: chunked", "Content-Type: text/plain"), 415),
		cutOff("cut headers", "POST /api/events HTTP/1.1\r\nHost: example.com\r\nX-Api-K", 400),
		cutOff("cut request line", "POST /api/ev", 400))
}
