package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"triggerd/internal/trigger"
)

// reason returns in a few words why there was no answer, without addresses.
// certificateWanted reports whether the receiver requested a client
// certificate.
func reason(err error, certificateWanted bool) string {
	var timeout interface{ Timeout() bool }
	if errors.Is(err, ErrTarget) {
		return ErrTarget.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	for _, of := range []func(error) string{reasonOfCertificate, reasonOfNetwork} {
		if text := of(err); text != "" {
			return text
		}
	}
	switch text := reasonOfTLS(err); {
	case text != "" && certificateWanted:
		return noClientCertificate
	case text != "":
		return text
	}
	if slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed}, func(e error) bool { return errors.Is(err, e) }) {
		return "connection closed"
	}
	return "no valid HTTP answer"
}

// reasonOfCertificate returns the reason for a bad certificate of a receiver,
// or "".
func reasonOfCertificate(err error) string {
	name, isName := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, isAny := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case isName && name.Host != "":
		return "certificate is for another name than the host of the URL"
	case isInvalid && invalid.Reason == x509.Expired:
		return "certificate has expired, or is not valid yet"
	case isUnknown:
		return "certificate is signed by an unknown authority"
	case isAny:
		return "certificate not valid"
	}
	return ""
}

// reasonOfNetwork returns the reason if a receiver cannot be reached, or "".
func reasonOfNetwork(err error) string {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS && dns.IsNotFound:
		return "host not found"
	case isDNS:
		return "host cannot be looked up"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the host"
	}
	return ""
}

const noClientCertificate = "receiver requires a client certificate, and webhooks have none"

// reasonOfTLS returns the reason if the two sides cannot agree on a protocol,
// or "". crypto/tls identifies most cases only by the texts of alerts (RFC
// 8446, section 6.2).
func reasonOfTLS(err error) string {
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if string(record.RecordHeader[:]) == "HTTP/" {
			return "receiver answers HTTP on this port, and the URL is https"
		}
		return "receiver does not speak TLS on this port, and the URL is https"
	}
	text := err.Error()
	if strings.Contains(text, `malformed HTTP response "\x15\x03`) { // the beginning of a TLS alert
		return "receiver speaks TLS on this port, and the URL is http"
	}
	for part, reason := range map[string]string{
		"tls: certificate required":                      noClientCertificate,
		"tls: protocol version not supported":            "no common TLS version",
		"tls: server selected unsupported protocol":      "no common TLS version",
		"tls: handshake failure":                         "no common TLS cipher",
		"tls: insufficient security level":               "no common TLS cipher",
		"tls: server chose an unconfigured cipher suite": "no common TLS cipher",
		"tls: unrecognized name":                         "receiver has no certificate for the host of the URL",
	} {
		if strings.Contains(text, part) {
			return reason
		}
	}
	if remote, ok := errors.AsType[*net.OpError](err); ok && remote.Op == "remote error" {
		return "TLS refused by the receiver: " + strings.TrimPrefix(remote.Err.Error(), "tls: ")
	}
	return ""
}

// shownLocation bounds the shown part of a Location, in bytes.
const shownLocation = 200

// redirectTo returns a text with the target of a redirect, which is not
// followed, without the credentials of the webhook; "" if the answer is not a
// redirect.
func redirectTo(resp *http.Response, w *trigger.Webhook) string {
	to := resp.Header.Get("Location")
	if resp.StatusCode < 300 || resp.StatusCode > 399 || to == "" {
		return ""
	}
	to = newRedactor(w, len(to)).text(to)
	if len(to) > shownLocation {
		to = to[:shownLocation] + "…"
	}
	return fmt.Sprintf(", a redirect to %q, which is not followed", strings.ToValidUTF8(to, "�"))
}
