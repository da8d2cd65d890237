package api

import "strings"

// badLines are requests whose first line is wrong, or odd.
func badLines() (list []abuse) {
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
		list = append(list, sent("line "+line, line+host, status))
	}
	for name, request := range map[string]string{
		"no Host": "GET /health HTTP/1.1\r\n\r\n", "two Hosts": "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"bad Host": "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", "no end of lines": "GET /health HTTP/1.1\rHost: example.com\r\r\n\r\n",
	} {
		list = append(list, sent(name, request, 400))
	}
	return append(list, sent("no Host in HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", 200))
}

// badTargets are URLs that are too long, or hold what does not belong there.
func badTargets(key string) (list []abuse) {
	long := func(path string, n int) string { return path + strings.Repeat("a", n-len(path)) }
	add := func(method, target string, status int) {
		list = append(list, sent(method+" "+target[:min(len(target), 60)], rawRequest(method, target, key, `{`), status))
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
	add("GET", "/health#a", 404)
	add("GET", "/..%2f..%2fetc/passwd", 404)
	add("GET", "/..\\..\\etc\\passwd", 404)
	add("GET", "/api/inbox?"+strings.Repeat("a&", 4000), 200)
	add("GET", "/api/inbox?"+strings.Repeat("limit=1&", 1000), 400)
	return list
}
