package api

import (
	"fmt"
	"slices"
	"strings"
)

// Parts of requests that are put together here.
const (
	okBody  = `{"type":"t","payload":1}`
	okGet   = "GET /health HTTP/1.1\r\nHost: example.com\r\n\r\n"
	okChunk = "18\r\n" + okBody + "\r\n0\r\n"
)

// badFraming are bodies of which it is not clear where they end.
func badFraming(key string) (list []abuse) {
	head := "POST /api/events HTTP/1.1\r\nHost: example.com\r\nX-Api-Key: " + key + "\r\n"
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n"
	const whole, length = okChunk + "\r\n", "Content-Length: 24\r\n"
	for name, request := range map[string]string{
		"negative length": head + "Content-Length: -1\r\n\r\n" + okBody, "signed length": head + "Content-Length: +24\r\n\r\n" + okBody,
		"length in hex": head + "Content-Length: 0x18\r\n\r\n" + okBody, "length in words": head + "Content-Length: many\r\n\r\n" + okBody,
		"length over 64 bits": head + "Content-Length: 99999999999999999999\r\n\r\n" + okBody,
		"two lengths":         head + length + "Content-Length: 5\r\n\r\n" + okBody,
		"list of lengths":     head + "Content-Length: 24, 5\r\n\r\n" + okBody, "empty length": head + "Content-Length: \r\n\r\n" + okBody,
		"bad chunk size": chunked + "zz\r\n" + okBody, "negative chunk size": chunked + "-1\r\n" + okBody,
		"chunk size over 64 bits": chunked + "fffffffffffffffff\r\n" + okBody,
		"chunk size in words":     chunked + "ten\r\n" + okBody, "no chunk size": chunked + "\r\n" + okBody,
		"chunk longer than its size": chunked + "5\r\n" + okBody + "\r\n0\r\n\r\n",
		"no CRLF after a chunk":      chunked + "18\r\n" + okBody + "0\r\n\r\n",
		"long line of a chunk":       chunked + "18;" + strings.Repeat("a", 10_000) + "\r\n" + okBody,
		"endless extensions":         chunked + strings.Repeat("1;"+strings.Repeat("a", 2000)+"\r\nx\r\n", 100), "only the last chunk": chunked + "0\r\n\r\n",
	} {
		list = append(list, sent(name, request, 400))
	}
	for name, request := range map[string]string{
		"chunked": chunked + whole, "chunk extension": chunked + "18;a=b\r\n" + okBody + "\r\n0\r\n\r\n",
		"the same length twice": head + length + length + "\r\n" + okBody, "Chunked": head + "Transfer-Encoding: CHUNKED\r\n\r\n" + whole,
		"length and chunked": head + length + "Transfer-Encoding: chunked\r\n\r\n" + whole,
		"chunked and length": head + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + whole,
	} {
		list = append(list, sent(name, request, 200))
	}
	return list
}

// oddFraming are bodies whose end other parsers see elsewhere. None of them may
// hide another request.
func oddFraming(key string) (list []abuse) {
	head := "POST /api/events HTTP/1.1\r\nHost: example.com\r\nX-Api-Key: " + key + "\r\n"
	for encoding, status := range map[string]int{
		"\tchunked": 200, " chunked ": 200, "\r\n chunked": 200, " chunked\r\nConnection: Transfer-Encoding": 200, // the same, written differently
		" \x0bchunked": 400, " chunked\x00": 400, // net/http's own, as all that follow
		"": 501, " gzip": 501, " identity": 501, " chunked, chunked": 501, " gzip, chunked": 501, " chunked, identity": 501, " xchunked": 501,
		` "chunked"`: 501, " chunked;q=1": 501, " chunked\r\nTransfer-Encoding: chunked": 501, " identity\r\nTransfer-Encoding: chunked": 501,
	} {
		list = append(list, sent("encoded as "+encoding, head+"Transfer-Encoding:"+encoding+"\r\n\r\n"+okChunk+"\r\n", status))
	}
	old := strings.Replace(head, "HTTP/1.1", "HTTP/1.0", 1)
	refused := func(headers ...string) string {
		return rawRequest("POST", "/api/events", "", okGet+okGet, headers...)
	}
	return append(list,
		sent("a space before the colon of the encoding", head+"Transfer-Encoding : chunked\r\n\r\n"+okChunk+"\r\n", 400),
		sent("a space before the colon of the length", head+"Content-Length : 24\r\n\r\n"+okBody, 400),
		sent("a folded length", head+"Content-Length: 2\r\n 4\r\n\r\n"+okBody, 400),
		sent("an underscore in the length", head+"Content_Length: 100\r\n\r\n"+okGet, 400, 200), // which is no length
		sent("chunks with bare LF", head+"Transfer-Encoding: chunked\r\n\r\n18\n"+okBody+"\n0\n\n", 400),
		sent("an extension with a bare LF", head+"Transfer-Encoding: chunked\r\n\r\n18;a\nb\r\n"+okBody+"\r\n0\r\n\r\n", 400),
		sent("a chunk of one byte after another", head+"Transfer-Encoding: chunked\r\n\r\n"+eachAlone(okBody)+"0\r\n\r\n", 200),
		cutOff("a chunk of 2^64-1 bytes", head+"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"+okBody, 400),
		sent("a length in HTTP/1.0", old+"Content-Length: 24\r\n\r\n"+okBody, 200),
		sent("no length in HTTP/1.0", old+"\r\n"+okBody, 400),
		sent("chunked in HTTP/1.0", old+"Transfer-Encoding: chunked\r\n\r\n"+okChunk+"\r\n", 400),
		sent("chunked with a length in HTTP/1.0", old+"Transfer-Encoding: chunked\r\nContent-Length: 24\r\n\r\n"+okChunk+"\r\n", 400),
		sent("a request in the body, without a key", refused(), 401),
		sent("a request in the body, wrong key", refused("X-Api-Key: sk_wrong"), 401),
		sent("a request in the body, wrong type", refused("X-Api-Key: "+key, "Content-Type: text/plain"), 415),
		sent("a request in the body", refused("X-Api-Key: "+key), 400),
		sent("requests in a body over the limit", head+"Content-Length: 2000000\r\n\r\n"+strings.Repeat(okGet, 100), 413),
		sent("chunked over the limit", head+"Transfer-Encoding: chunked\r\n\r\n200000\r\n"+strings.Repeat("x", 0x200000)+"\r\n0\r\n\r\n", 413),
		sent("small chunks over the limit", head+"Transfer-Encoding: chunked\r\n\r\n"+
			strings.Repeat("400\r\n"+strings.Repeat(" ", 0x400)+"\r\n", 1025)+okGet, 413),
		sent("a body where none belongs", "GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 200),
		sent("a request where no body belongs", fmt.Sprintf("GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(okGet))+okGet, 200))
}

// eachAlone puts each byte into a chunk of its own.
func eachAlone(body string) string {
	var chunks strings.Builder
	for _, b := range []byte(body) {
		chunks.WriteString("1\r\n" + string(b) + "\r\n")
	}
	return chunks.String()
}

// pipelines are requests that follow each other without waiting for answers:
// each has its own, in their order, until one says that it is the last.
func pipelines(key string) []abuse {
	post := rawRequest("POST", "/api/events", key, okBody)
	bad := rawRequest("POST", "/api/events", key, "{")
	noKey := rawRequest("POST", "/api/events", "", okBody)
	both := "POST /api/events HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + key + "\r\nTransfer-Encoding: chunked\r\nContent-Length: "
	return []abuse{
		sent("three requests", okGet+okGet+okGet, 200, 200, 200),
		sent("two events and a look", post+post+okGet, 200, 200, 200),
		sent("a thousand requests", strings.Repeat(okGet, 1000), slices.Repeat([]int{200}, 1000)...),
		sent("one behind a refused one", bad+okGet, 400, 200),
		sent("one behind one without a key", noKey+okGet, 401, 200),
		sent("one behind an unknown path", rawRequest("POST", "/unknown", "", okBody)+okGet, 404, 200),
		sent("one behind the last", "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"+okGet, 200),
		sent("one behind one of HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n"+okGet, 200),
		sent("one behind one of HTTP/1.0 that stays", "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"+okGet, 200, 200),
		sent("one behind nonsense", okGet+"nonsense\r\n\r\n"+okGet, 200, 400),
		sent("one behind what is too large", rawRequest("POST", "/api/events", key, strings.Repeat(" ", 1<<20+1))+okGet, 413),
		sent("one behind a body that is too short", "POST /api/events HTTP/1.1\r\nHost: a\r\nX-Api-Key: "+key+"\r\nContent-Length: 23\r\n\r\n"+okBody+okGet, 400, 400),
		// RFC 9112, section 6.3: the chunks count, whatever the length says.
		sent("one behind chunks and a length over it", fmt.Sprintf("%s%d\r\n\r\n", both, len(okChunk+okGet)+2)+okChunk+"\r\n"+okGet, 200, 200),
		sent("one behind chunks and a length under it", both+"5\r\n\r\n"+okChunk+"\r\n"+okGet, 200, 200),
		sent("an empty line before a request", "\r\n"+okGet, 400),
		sent("the start of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 404),
	}
}

// expectations are requests that want to be told to go on before they send
// their bodies. Only who may is told.
func expectations(key string) []abuse {
	goOn := "Expect: 100-continue"
	return []abuse{
		sent("an unknown expectation", rawRequest("POST", "/api/events", key, okBody, "Expect: the unexpected"), 417), // net/http's own
		sent("told to go on", rawRequest("POST", "/api/events", key, okBody, goOn), 200),
		sent("told to go on, in capitals", rawRequest("POST", "/api/events", key, okBody, strings.ToUpper(goOn)), 200),
		sent("twice", rawRequest("POST", "/api/events", key, okBody, goOn, goOn), 200),
		sent("with chunks", rawRequest("POST", "/api/events", key, okChunk+"\r\n", goOn, "Transfer-Encoding: chunked"), 200),
		sent("in HTTP/1.0", strings.Replace(rawRequest("POST", "/api/events", key, okBody, goOn), "HTTP/1.1", "HTTP/1.0", 1), 200),
		sent("without a body", rawRequest("GET", "/health", "", "", goOn), 200),
		sent("without a key, and goes on", rawRequest("POST", "/api/events", "", okBody, goOn)+okGet, 401),
		sent("without a key, and waits", strings.TrimSuffix(rawRequest("POST", "/api/events", "", okBody, goOn), okBody), 401),
		sent("of another type, and waits", strings.TrimSuffix(rawRequest("POST", "/api/events", key, okBody, goOn, "Content-Type: text/plain"), okBody), 415),
		sent("too large, and waits", strings.TrimRight(rawRequest("POST", "/api/events", key, strings.Repeat("x", 1<<20+1), goOn), "x"), 413),
		sent("to an unknown path, and waits", strings.TrimSuffix(rawRequest("POST", "/unknown", "", okBody, goOn), okBody), 404),
	}
}

// trailers are headers behind the chunks. None of them counts for anything.
func trailers(key string) (list []abuse) {
	add := func(name string, status int, key, trailer string, headers ...string) {
		request := rawRequest("POST", "/api/events", key, okChunk+trailer+"\r\n", append(headers, "Transfer-Encoding: chunked")...)
		list = append(list, sent("trailer "+name, request, status))
	}
	add("with the key", 401, "", "X-Api-Key: "+key+"\r\n")
	add("with the key, announced", 401, "", "X-Api-Key: "+key+"\r\n", "Trailer: X-Api-Key")
	add("with another key", 200, key, "X-Api-Key: sk_wrong\r\n", "Trailer: X-Api-Key")
	add("with a type", 200, key, "Content-Type: text/plain\r\n", "Trailer: Content-Type")
	add("with a length", 200, key, "Content-Length: 3\r\n")
	add("with an encoding", 200, key, "Transfer-Encoding: gzip\r\n")
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Trailer"} {
		add("that announces "+name, 400, key, name+": 3\r\n", "Trailer: "+name) // net/http's own
	}
	add("that does not come", 200, key, "", "Trailer: X-A")
	add("without a colon", 400, key, "nonsense\r\n")
	add("with a NUL", 400, key, "X-A: a\x00b\r\n")
	add("of 100 KiB", 400, key, "X-A: "+strings.Repeat("a", 100<<10)+"\r\n")
	add("many times", 400, key, strings.Repeat("X-A: a\r\n", 10_000))
	return list
}
