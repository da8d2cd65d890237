package deliver

import (
	"crypto/x509"
	"net/http"
)

// Idle closes the connections that no attempt uses.
func (e *Engine) Idle() { e.closeIdle() }

// TransportFor is the transport for webhooks, which trusts these roots.
func TransportFor(g *Guard, roots *x509.CertPool) http.RoundTripper {
	transport := newTransport(g)
	transport.TLSClientConfig.RootCAs = roots
	return transport
}

// Reason is reason where no client certificate is wanted.
func Reason(err error) string { return reason(err, false) }

// Closed reports whether the engine is stopping, or has not begun.
func (e *Engine) Closed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}
