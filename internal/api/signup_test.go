package api

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// signupBody asks for an organization of a tier.
func signupBody(tier string) string { return `{"organization_name":"O","tier":"` + tier + `"}` }

// signUpRaw sends a request as it stands, and returns the status and the body.
func (s *server) signUpRaw(t *testing.T, lines ...string) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	content := signupBody("free")
	text := strings.Join(lines, "\r\n") + "\r\nConnection: close\r\nContent-Length: " + strconv.Itoa(len(content)) + "\r\n\r\n" + content
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	_, code, _ := strings.Cut(head, " ")
	if status, err = strconv.Atoi(code[:3]); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return status, body
}

// On loopback signup is open to programs of this machine, a missing
// Content-Type included, and to nobody for whom a browser or a proxy asks.
func TestSignupOnLoopback(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.MadeToken = madeToken() })
	const request, metrics, local = "POST /api/keys/generate HTTP/1.1", "GET /metrics HTTP/1.1", "Host: localhost:5001"
	for _, host := range []string{
		"localhost", "localhost:5001", "LocalHost", "app.localhost:5001", "a.b.localhost", "127.0.0.1", "127.0.0.1:5001", "127.255.0.9:1", "[::1]", "[::1]:5001", "[::ffff:127.0.0.1]:80",
	} {
		if status, body := s.signUpRaw(t, request, "Host: "+host); status != 200 {
			t.Errorf("Host %s: %d %s", host, status, body)
		}
	}
	for _, host := range []string{
		"", "evil.example", "evil.example:5001", "localhost.evil.example", "notlocalhost", "localhost.", "127.0.0.1.evil.example", "127.1", "2130706433",
		"0.0.0.0:5001", "10.0.0.1", "[::]:5001", "[fe80::1]", "[::1", "169.254.169.254", "localhost:5001:1",
	} {
		for _, request := range []string{request, metrics} {
			if status, body := s.signUpRaw(t, request, "Host: "+host); status != 401 && status != 400 {
				t.Errorf("%s with Host %s: %d %s", request, host, status, body)
			}
		}
	}
	for _, header := range []string{
		"Content-Type: application/json", "Origin: http://localhost:5001", "Origin: https://LOCALHOST:5001", "Sec-Fetch-Site: same-origin",
		"Sec-Fetch-Site: none", "X-Request-Id: 1", "Referer: http://evil.example/", "Sec-Fetch-Mode: cors", "Authorization: Bearer wrong", "X-Api-Key: sk_x",
	} {
		for _, request := range []string{request, metrics} {
			if status, body := s.signUpRaw(t, request, local, header); status != 200 {
				t.Errorf("%s with %s: %d %s", request, header, status, body)
			}
		}
	}
	for _, header := range []string{
		"Origin: http://evil.example", "Origin: http://localhost:3000", "Origin: http://localhost", "Origin: null", "Origin: ", "Origin: file://localhost:5001",
		"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Sec-Fetch-Site: ", "sec-fetch-site: cross-site",
		"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin\r\nOrigin: http://evil.example",
		"Forwarded: for=192.0.2.1", "Via: 1.1 proxy", "via: ", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost", "X-Forwarded-Proto: https",
		"X-Forwarded-Anything: 1", "x-forwarded-for: ", "X-Real-IP: 192.0.2.1", "CF-Connecting-IP: 192.0.2.1",
	} {
		for _, request := range []string{request, metrics} {
			status, body := s.signUpRaw(t, request, local, header)
			if status != 401 || body != `{"error":"Missing or wrong admin token"}` {
				t.Errorf("%s with %s: %d %s", request, header, status, body)
			}
		}
		if status, body := s.signUpRaw(t, request, local, header, "Authorization: Bearer "+madeToken()); status != 200 {
			t.Errorf("%s with the token: %d %s", header, status, body)
		}
	}
	if status, body := s.signUpRaw(t, "POST /api/keys/generate HTTP/1.0", local); status != 401 {
		t.Errorf("HTTP/1.0: %d %s", status, body)
	}
	if status, body := s.signUpRaw(t, "POST /api/keys/generate HTTP/1.0", local, "Authorization: Bearer "+madeToken()); status != 200 {
		t.Errorf("HTTP/1.0 with the token: %d %s", status, body)
	}
	if !strings.Contains(s.log.String(), "signup is not open to HTTP/1.0") {
		t.Error("the log does not say why")
	}
}

// What is set decides whether signup is open at all.
func TestSignupSettings(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		st := db.Open(t)
		for _, test := range []struct {
			name               string
			set                func(*API)
			free, professional int
			token              string
		}{
			{"nothing", func(*API) {}, 200, 200, ""},
			{"a made token", func(a *API) { a.MadeToken = madeToken() }, 200, 200, madeToken()},
			{"ADMIN_TOKEN", withOperator, 401, 401, operator},
			{"TRUSTED_PROXIES", func(a *API) {
				a.Proxies, a.MadeToken = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, madeToken()
			}, 401, 401, madeToken()},
			{"PUBLIC_URL", func(a *API) { a.PublicURL, a.MadeToken = "https://example.com", madeToken() }, 401, 401, madeToken()},
			{"beyond loopback", func(a *API) { a.Loopback, a.MadeToken = false, madeToken() }, 401, 401, madeToken()},
			{"OPEN_SIGNUP", func(a *API) { a.OpenSignup, a.MadeToken = true, madeToken() }, 200, 401, madeToken()},
			{"OPEN_SIGNUP beyond loopback", func(a *API) { a.OpenSignup, a.Loopback, a.MadeToken = true, false, madeToken() }, 200, 401, madeToken()},
			{"OPEN_SIGNUP, ADMIN_TOKEN", func(a *API) { a.OpenSignup, a.AdminToken = true, operator }, 200, 401, operator},
		} {
			s := serveStore(t, db, st, test.set)
			for tier, want := range map[string]int{"free": test.free, "professional": test.professional} {
				for _, header := range []string{"X-Other: none", "Authorization: Bearer wrong"} {
					s.do(t, "POST", "/api/keys/generate", "", signupBody(tier), header).wants(t, test.name+", "+tier+", "+header, want, "")
				}
				if test.token != "" {
					s.do(t, "POST", "/api/keys/generate", "", signupBody(tier), "Authorization: Bearer "+test.token).
						wants(t, test.name+", "+tier+" with the token", 200, tier)
				}
			}
		}
	})
}

// signUpFrom asks for an organization as from an address, through whatever
// proxies and browsers.
func (s *server) signUpFrom(t *testing.T, address, body string, headers ...string) reply {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), "POST", "http://triggerd.example/api/keys/generate", strings.NewReader(body))
	req.RemoteAddr = address
	for _, line := range append([]string{"Origin: https://evil.example", "Via: 1.1 proxy"}, headers...) {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	out := httptest.NewRecorder()
	s.Config.Handler.ServeHTTP(out, req)
	return reply{out.Code, out.Header(), out.Body.String()}
}

// Open signup makes no more than so many organizations for one address in an
// hour. What makes none does not count, and the operator makes more.
func TestOpenSignupIsLimited(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.OpenSignup, a.Loopback, a.AdminToken = true, false, operator })
	const address, neighbour, other = "192.0.2.1:1", "[2001:db8:1::1]:1", "[2001:db8:2::1]:1"
	for i := range 2 * maxSignups {
		s.signUpFrom(t, address, `{"organization_name":""}`).wants(t, fmt.Sprint(i, " makes none"), 400, "")
		s.signUpFrom(t, address, signupBody("professional")).wants(t, fmt.Sprint(i, " makes none"), 401, "")
	}
	for i := range maxSignups {
		s.signUpFrom(t, address, signupBody("free")).wants(t, i, 200, "sk_")
		s.clock.Advance(time.Minute)
	}
	for _, body := range []string{signupBody("free"), "{", signupBody("professional")} {
		r := s.signUpFrom(t, address, body)
		r.isExactly(t, "one more", http.StatusTooManyRequests, `{"error":"Rate limit exceeded","limit":20,"window":"3600 seconds"}`)
		if after, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || after != 41*60 {
			t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
		}
	}
	s.signUpFrom(t, "192.0.2.2:1", signupBody("free")).wants(t, "another address", 200, "sk_")
	s.signUpFrom(t, neighbour, signupBody("free")).wants(t, "another address", 200, "sk_")
	s.signUpFrom(t, other, signupBody("free")).wants(t, "another address", 200, "sk_")
	s.signUpFrom(t, address, signupBody("enterprise"), "Authorization: Bearer "+operator).wants(t, "the operator", 200, "sk_")
	s.clock.Advance(41 * time.Minute)
	s.signUpFrom(t, address, signupBody("free")).wants(t, "an hour later", 200, "sk_")
	s.signUpFrom(t, address, signupBody("free")).wants(t, "one more", 429, "")
}

// Whoever guesses the token by another tier is limited, and signs up all the
// same.
func TestOpenSignupGuesses(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.OpenSignup, a.MadeToken = true, madeToken() })
	for i := range wrongKeys + 5 {
		want := 401
		if i >= wrongKeys {
			want = 429
		}
		s.do(t, "POST", "/api/keys/generate", "", signupBody("enterprise"), "Authorization: Bearer wrong").wants(t, i, want, "")
	}
	s.do(t, "POST", "/api/keys/generate", "", signupBody("free"), "Authorization: Bearer wrong").wants(t, "tier free", 200, "sk_")
	s.do(t, "POST", "/api/keys/generate", "", signupBody("enterprise"), "Authorization: Bearer "+madeToken()).wants(t, "the token", 200, "sk_")
}
