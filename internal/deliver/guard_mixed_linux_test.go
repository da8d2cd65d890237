package deliver

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A name with addresses inside and outside is not registered. If it becomes
// such a name later, deliveries go outside or nowhere.
func TestGuardMixedAnswer(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = server.Listener.Close()
	server.Listener = listen(t, "127.0.0.2:"+c.port()) // only Linux has all of 127.0.0.0/8
	server.Start()
	t.Cleanup(server.Close)
	for answer, reached := range map[string]bool{
		"127.0.0.2": true, "127.0.0.1 127.0.0.2": true, "127.0.0.2 127.0.0.1": true, "::1 127.0.0.2": true,
		"::ffff:127.0.0.1 127.0.0.2": true, "64:ff9b::7f00:1 2002:7f00:1:: fe80::1 127.0.0.2": true,
		"127.0.0.3": false, "127.0.0.3 127.0.0.1": false, "127.0.0.1 127.0.0.3": false, "::1 127.0.0.3": false, // nobody there
	} {
		g := NewGuard(prefixes(t, "127.0.0.2/31"), false)
		g.Resolver = dnsServer(answer)
		target := "http://mixed.example.:" + c.port() + "/"
		if err := g.Target(t.Context(), target); (err == nil) != (len(answer) == len("127.0.0.2")) {
			t.Errorf("%s is registered: %v", answer, err)
		}
		if _, err := post(t, guardedTransport(t, g), target); (err == nil) != reached {
			t.Fatalf("%s: %v", answer, err)
		}
	}
	c.check(t)
}
