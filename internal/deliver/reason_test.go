package deliver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"triggerd/internal/deliver"
	"triggerd/internal/store/storetest"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// The attempts log says what stands between a webhook and its receiver, each
// cause in words of its own.
func TestReasons(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	roots := x509.NewCertPool()
	secure := func(change func(*tls.Config)) string {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{}
		change(server.TLS)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		roots.AddCert(server.Certificate())
		return server.URL
	}
	answering := func(text string) string {
		address, _ := rawServer(t, answers(text, ""))
		return address
	}
	port := func(url string) string { return url[strings.LastIndexByte(url, ':'):] }
	plain := newReceiver(t, nil)
	unknown := secure(func(*tls.Config) {})
	for name, c := range map[string]struct{ url, want string }{
		"an unknown authority":     {unknown, "certificate is signed by an unknown authority"},
		"HTTP where TLS is wanted": {"https" + strings.TrimPrefix(plain.URL, "http"), "receiver answers HTTP on this port, and the URL is https"},
		"no TLS at all":            {"https://" + answering("220 mail.example\r\n"), "receiver does not speak TLS on this port, and the URL is https"},
		"TLS where HTTP is wanted": {"http://" + answering("\x15\x03\x01\x00\x02\x02\x0a"), "receiver speaks TLS on this port, and the URL is http"},
		"no common version":        {secure(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }), "no common TLS version"},
		"no common cipher": {secure(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}
		}), "no common TLS cipher"},
		"a client certificate by 1.2": {secure(func(c *tls.Config) { c.MaxVersion, c.ClientAuth = tls.VersionTLS12, tls.RequireAnyClientCert }), "receiver requires a client certificate, and webhooks have none"},
		"a client certificate by 1.3": {secure(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), "receiver requires a client certificate, and webhooks have none"},
		"no host":                     {"http://nowhere.invalid/", "host not found"},
		"nobody there":                {"http://127.0.0.1" + port(closedPort(t)), "connection refused"},
		"a redirect":                  {"http://" + answering("HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.example/hook\r\nContent-Length: 0\r\n\r\n"), `status 301, a redirect to "https://elsewhere.example/hook", which is not followed`},
		"nonsense":                    {"http://" + answering("nonsense\r\n\r\n"), "no valid HTTP answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			guard := deliver.NewGuard(nil, true)
			trusted := roots
			if name == "an unknown authority" {
				trusted = x509.NewCertPool()
			}
			transport := deliver.TransportFor(guard, trusted)
			n := deliver.New(deliver.Config{Store: s, Guard: guard, Transport: transport, Timeout: time.Minute, Now: db.Clock.Now, Metrics: telemetry.New()})
			w := trigger.Webhook{ID: 1, URL: c.url, Timeout: 20 * time.Second, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{7}))}
			e := &trigger.Event{ID: trigger.NewID(s.Now(), 0, 1), Type: "a", Payload: []byte("1")}
			if a := n.Try(t.Context(), &w, e); !strings.Contains(a.Error, c.want) {
				t.Errorf("%q, want %q", a.Error, c.want)
			}
			n.Idle()
		})
	}
}

// closedPort is the URL of a server that has stopped.
func closedPort(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return server.URL
}

// Errors of certificates are told apart, as the verification returns them.
func TestReasonsOfCertificates(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"certificate is for another name than the host of the URL": x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a.example"},
		"certificate has expired, or is not valid yet":             x509.CertificateInvalidError{Reason: x509.Expired},
		"certificate not valid":                                    x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign},
		"timeout":                                                  context.DeadlineExceeded,
	} {
		if want != "timeout" {
			err = &tls.CertificateVerificationError{Err: err}
		}
		if got := deliver.Reason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
