package api

import (
	"fmt"
	"strings"
)

// badHTTP are requests whose first line is wrong, or odd.
func badHTTP() (list []abuse) {
	const host = "\r\nHost: example.com\r\n\r\n"
	for line, status := range map[string]int{
		"GET /health HTTP/1.0": 200, "GET /api/inbox HTTP/1.0": 401, "get /health HTTP/1.1": 405, "FOO /health HTTP/1.1": 405,
		"TRACE /health HTTP/1.1": 405, "PATCH /api/events HTTP/1.1": 405, "DELETE /unknown HTTP/1.1": 404, "HEAD /unknown HTTP/1.1": 404,
		strings.Repeat("A", 5000) + " /health HTTP/1.1": 405, "PROPFIND / HTTP/1.1": 404, "GET\x00 /health HTTP/1.1": 400, "G@T /health HTTP/1.1": 400,
		" /health HTTP/1.1": 400, "GET /health": 400, "GET": 400, "": 400,
		"GET  /health HTTP/1.1": 400, "GET /health  HTTP/1.1": 400, "GET /health HTTP/1": 400,
		"GET /health HTTP/1.1 ": 400, "GET /health http/1.1": 400, "GET /health HTTP/1.10": 400, "GET /health HTTP/x.y": 400, "GET /health FTP/1.1": 400,
		"GET /hea lth HTTP/1.1": 400, "GET\t/health\tHTTP/1.1": 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400, "GET health HTTP/1.1": 400,
		"GET http://example.com/health HTTP/1.1": 200, "GET http://elsewhere.example:1/health?a=b HTTP/1.1": 200, "GET HTTP://a/api/inbox HTTP/1.1": 401,
		"GET http://example.com HTTP/1.1": 404, "GET http://example.com//health HTTP/1.1": 404, "GET http://a@b@c/health HTTP/1.1": 200,
		"GET http://[::1/health HTTP/1.1": 400, "GET file:///etc/passwd HTTP/1.1": 404, "GET mailto:health HTTP/1.1": 404, "GET ?limit=1 HTTP/1.1": 400,
		"OPTIONS * HTTP/1.1": 200, "OPTIONS /health HTTP/1.1": 405, "GET * HTTP/1.1": 404, "POST * HTTP/1.1": 404, "CONNECT * HTTP/1.1": 404,
		"CONNECT example.com:443 HTTP/1.1": 404, "CONNECT /health HTTP/1.1": 405, "CONNECT http://example.com/health HTTP/1.1": 404,
		"PRI * HTTP/2.0": 404, "GET /health HTTP/2.0": 505, "GET /health HTTP/3.0": 505, "GET /health HTTP/0.9": 505, // net/http's own
	} {
		list = append(list, abuse{"line " + line, line + host, false, []int{status}})
	}
	for name, request := range map[string]string{
		"no Host": "GET /health HTTP/1.1\r\n\r\n", "two Hosts": "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"bad Host": "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", "no end of lines": "GET /health HTTP/1.1\rHost: example.com\r\r\n\r\n",
	} {
		list = append(list, abuse{name, request, false, []int{400}})
	}
	return append(list, abuse{"no Host in HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", false, []int{200}})
}

// badFraming are bodies of which it is not clear where they end. None of them
// may hide another request.
func badFraming(key string) (list []abuse) {
	const body = `{"type":"t","payload":1}`
	const hidden = "GET /health HTTP/1.1\r\nHost: example.com\r\n\r\n"
	head := "POST /api/events HTTP/1.1\r\nHost: example.com\r\nX-Api-Key: " + key + "\r\n"
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n"
	whole := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	for name, request := range map[string]string{
		"negative length": head + "Content-Length: -1\r\n\r\n" + body, "signed length": head + "Content-Length: +24\r\n\r\n" + body,
		"length in hex": head + "Content-Length: 0x18\r\n\r\n" + body, "length in words": head + "Content-Length: many\r\n\r\n" + body,
		"length over 64 bits": head + "Content-Length: 99999999999999999999\r\n\r\n" + body,
		"two lengths":         head + length + "Content-Length: 5\r\n\r\n" + body,
		"list of lengths":     head + "Content-Length: 24, 5\r\n\r\n" + body, "empty length": head + "Content-Length: \r\n\r\n" + body,
		"bad chunk size": chunked + "zz\r\n" + body, "negative chunk size": chunked + "-1\r\n" + body,
		"chunk size over 64 bits": chunked + "fffffffffffffffff\r\n" + body,
		"chunk size in words":     chunked + "ten\r\n" + body, "no chunk size": chunked + "\r\n" + body,
		"chunk longer than its size": chunked + "5\r\n" + body + "\r\n0\r\n\r\n",
		"no CRLF after a chunk":      chunked + "18\r\n" + body + "0\r\n\r\n",
		"long line of a chunk":       chunked + "18;" + strings.Repeat("a", 10_000) + "\r\n" + body,
		"endless extensions":         chunked + strings.Repeat("1;"+strings.Repeat("a", 2000)+"\r\nx\r\n", 100), "only the last chunk": chunked + "0\r\n\r\n",
	} {
		list = append(list, abuse{name, request, false, []int{400}})
	}
	for name, request := range map[string]string{
		"chunked": chunked + whole, "chunk extension": chunked + "18;a=b\r\n" + body + "\r\n0\r\n\r\n",
		"trailer":               chunked + "18\r\n" + body + "\r\n0\r\nX-Api-Key: a\r\n\r\n",
		"the same length twice": head + length + length + "\r\n" + body, "Chunked": head + "Transfer-Encoding: CHUNKED\r\n\r\n" + whole,
		"length and chunked": head + length + "Transfer-Encoding: chunked\r\n\r\n" + whole,
		"chunked and length": head + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + whole,
	} {
		list = append(list, abuse{name, request, false, []int{200}})
	}
	for name, encoding := range map[string]string{
		"gzip": "gzip", "identity": "identity",
		"chunked twice": "chunked, chunked", "gzip, chunked": "gzip, chunked", "none": "xchunked",
	} {
		list = append(list, abuse{"encoded as " + name, head + "Transfer-Encoding: " + encoding + "\r\n\r\n" + whole, false, []int{400, 501}}) // net/http's own
	}
	refused := func(headers ...string) string {
		return rawRequest("POST", "/api/events", "", hidden+hidden, headers...)
	}
	large := strings.Replace(rawRequest("POST", "/api/events", key, ""), "Content-Length: 0", "Content-Length: 2000000", 1)
	return append(list,
		abuse{"a request in the body, without a key", refused(), false, []int{401}},
		abuse{"a request in the body, wrong key", refused("X-Api-Key: sk_wrong"), false, []int{401}},
		abuse{"a request in the body, wrong type", refused("X-Api-Key: "+key, "Content-Type: text/plain"), false, []int{415}},
		abuse{"a request in the body", refused("X-Api-Key: " + key), false, []int{400}},
		abuse{"requests in a body over the limit", large + strings.Repeat(hidden, 100), false, []int{413}},
		abuse{"chunked over the limit", chunked + "200000\r\n" + strings.Repeat("x", 0x200000) + "\r\n0\r\n\r\n", false, []int{413}},
		abuse{"small chunks over the limit", chunked + strings.Repeat("400\r\n"+strings.Repeat(" ", 0x400)+"\r\n", 1025) + hidden, false, []int{413}},
		abuse{"a body where none belongs", "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", false, []int{200}},
		abuse{"an expectation", rawRequest("POST", "/api/events", key, body, "Expect: the unexpected"), false, []int{417}})
}

// badTargets are URLs that are too long, or hold what does not belong there.
func badTargets(key string) (list []abuse) {
	long := func(path string, n int) string { return path + strings.Repeat("a", n-len(path)) }
	add := func(method, target string, statuses ...int) {
		list = append(list, abuse{method + " " + target[:min(len(target), 60)], rawRequest(method, target, key, `{`), false, statuses})
	}
	add("GET", long("/health?a=", 8<<10), 200)
	add("GET", long("/", 8<<10), 404)
	for _, path := range []string{"/health?a=", "/api/inbox?a=", "/", "//", "/health/", "/readyz?"} {
		add("GET", long(path, 8<<10+1), 414)
	}
	for _, path := range []string{"/api/events?", "/api/keys/generate?", "/api/webhook/register?", "/health?"} {
		add("POST", long(path, 8<<10+1), 414)
		add("POST", long(path, 11<<10), 414)
	}
	add("GET", long("/health?", 24<<10), 431)
	add("GET", "/health%", 400)
	add("GET", "/health%zz", 400)
	add("GET", "/hea\x00lth", 400)
	add("GET", "/hea\x7flth", 400)
	add("GET", "/h\xc3\xa9alth", 404)
	add("GET", "/\xff\xfe", 404)
	add("GET", "/health?\xff=%ff&%00", 200)
	add("GET", "/health#a", 200, 404)
	add("GET", "/..%2f..%2fetc/passwd", 404)
	add("GET", "/..\\..\\etc\\passwd", 404)
	add("GET", "/api/inbox?"+strings.Repeat("a&", 4000), 200)
	add("GET", "/api/inbox?"+strings.Repeat("limit=1&", 1000), 400)
	return list
}
