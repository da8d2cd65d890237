package trigger

import (
	"encoding/base64"
	"net/textproto"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Format is the format of the body of a delivery.
type Format string

// The formats.
const (
	FormatStandard    Format = "standard"    // Standard Webhooks: {"id","type","timestamp","data"}
	FormatCloudEvents Format = "cloudevents" // CloudEvents 1.0, structured
	FormatPayload     Format = "payload"     // the payload alone
)

// ParseFormat reads the name of a format; "" is standard. An unknown name is
// Invalid.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case "":
		return FormatStandard, nil
	case FormatStandard, FormatCloudEvents, FormatPayload:
		return f, nil
	}
	return "", Errorf(Invalid, "format must be standard, cloudevents or payload; got %.60q", s)
}

// ContentType returns the Content-Type of a delivery's body.
func (f Format) ContentType() string {
	if f == FormatCloudEvents {
		return "application/cloudevents+json"
	}
	return "application/json"
}

// Auth holds the credentials that a webhook's deliveries carry in addition to
// their signature: either a token, or a user and password, or neither.
type Auth struct {
	Bearer         string // a token
	User, Password string // for Basic
}

// Header returns the value of Authorization, "" for the zero Auth.
func (a Auth) Header() string {
	switch {
	case a.Bearer != "":
		return "Bearer " + a.Bearer
	case a.User != "" || a.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.User+":"+a.Password))
	}
	return ""
}

// String returns a text without the secrets, for logs and messages.
func (a Auth) String() string { return "[redacted]" }

// GoString returns String, for %#v.
func (a Auth) GoString() string { return a.String() }

// MarshalText returns String, for JSON.
func (a Auth) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Check returns an Invalid error if a value that the owner of a webhook chose is
// not valid. It does not check the URL; see deliver.Guard. Zero values are the
// server's defaults: its timeout and schedule, no limit of the rate, 16 attempts
// at a time.
func (w *Webhook) Check() error {
	switch {
	case w.Timeout != 0 && (w.Timeout < MinTimeout || w.Timeout > MaxTimeout):
		return Errorf(Invalid, "timeout must be from %s to %s; got %s", MinTimeout, MaxTimeout, w.Timeout)
	case len(w.Schedule) > MaxPauses || slices.ContainsFunc(w.Schedule, notAPause):
		return Errorf(Invalid, "a schedule must have at most %d pauses, each from 0s to %s", MaxPauses, MaxPause)
	case w.Rate != 0 && (!(w.Rate >= MinRate) || w.Rate > MaxRate): // refuses NaN, too
		return Errorf(Invalid, "rate must be from %v to %v deliveries a second; got %v", MinRate, MaxRate, w.Rate)
	case w.Concurrency < 0 || w.Concurrency > MaxConcurrency:
		return Errorf(Invalid, "concurrency must be from 1 to %d; got %d", MaxConcurrency, w.Concurrency)
	case !isNote(w.Description, MaxDescription):
		return Errorf(Invalid, "description must have at most %d bytes of UTF-8 without NUL", MaxDescription)
	}
	if _, err := ParseFormat(string(w.Format)); err != nil {
		return err
	}
	if err := checkMetadata(w.Metadata); err != nil {
		return err
	}
	if err := w.Auth.check(); err != nil {
		return err
	}
	return checkHeaders(w.Headers)
}

func notAPause(p time.Duration) bool { return p < 0 || p > MaxPause }

// isNote reports whether a text for people can be stored. PostgreSQL stores no
// NUL in a text.
func isNote(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func (a Auth) check() error {
	if a.Bearer != "" && (a.User != "" || a.Password != "") {
		return Errorf(Invalid, "authentication must be either basic or bearer, not both")
	}
	if strings.Trim(a.Bearer, " ") != a.Bearer {
		return Errorf(Invalid, "a bearer token must not begin or end with a space")
	}
	if strings.Contains(a.User, ":") {
		return Errorf(Invalid, "a user name for basic authentication must not have a colon")
	}
	for _, s := range []string{a.Bearer, a.User, a.Password} {
		if len(s) > MaxHeaderValue || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			return Errorf(Invalid, "authentication must be printable ASCII, at most %d bytes", MaxHeaderValue)
		}
	}
	return nil
}

func checkMetadata(m map[string]string) error {
	if len(m) > MaxMetadata {
		return Errorf(Invalid, "metadata must have at most %d members; got %d", MaxMetadata, len(m))
	}
	for key, value := range m {
		if err := checkText("a metadata key", key, MaxName); err != nil {
			return err
		}
		if !isNote(value, MaxHeaderValue) {
			return Errorf(Invalid, "metadata values must have at most %d bytes of UTF-8 without NUL", MaxHeaderValue)
		}
	}
	return nil
}

func checkHeaders(headers map[string]string) error {
	if len(headers) > MaxHeaders {
		return Errorf(Invalid, "headers must have at most %d members; got %d", MaxHeaders, len(headers))
	}
	seen := make(map[string]bool, len(headers))
	for name, value := range headers {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case name == "" || len(name) > MaxName || strings.ContainsFunc(name, notInToken):
			return Errorf(Invalid, "%.64q is not a valid header name", name)
		case isReserved(canonical):
			return Errorf(Invalid, "the header %s is set by the server and must not be given", canonical)
		case seen[canonical]:
			return Errorf(Invalid, "the header %s must appear only once", canonical)
		case len(value) > MaxHeaderValue || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 && r != '\t' || r > 0x7e }):
			return Errorf(Invalid, "the value of %s must be printable ASCII, at most %d bytes", canonical, MaxHeaderValue)
		case strings.Trim(value, " \t") != value: // HTTP/1.1 strips it, HTTP/2 refuses the request (RFC 9113, 8.2.1)
			return Errorf(Invalid, "the value of %s must not begin or end with white space", canonical)
		}
		seen[canonical] = true
	}
	return nil
}

// notInToken reports whether a token must not have r (RFC 9110, 5.6.2).
func notInToken(r rune) bool {
	return !strings.ContainsRune("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", r)
}

// isReserved reports whether a header is set by the server, belongs to the
// connection, or would identify another client. An underscore counts as a hyphen, because
// a receiver that reads headers as CGI variables cannot tell them apart.
func isReserved(name string) bool {
	canonical := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	for _, prefix := range []string{"Webhook-", "Svix-", "Proxy-", "Sec-", "Ce-"} {
		if strings.HasPrefix(canonical, prefix) {
			return true
		}
	}
	switch canonical {
	case "Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie",
		"Date", "Expect", "Forwarded", "Host", "Keep-Alive", "Te", "Traceparent", "Tracestate", "Trailer", "Transfer-Encoding", "Upgrade",
		"User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
		return true
	}
	return false
}

// Limits of what a webhook's owner may choose.
const (
	MinTimeout     = time.Second
	MaxTimeout     = 30 * time.Second
	MaxConcurrency = 64
	MaxHeaders     = 20
	MaxHeaderValue = 4096 // bytes; also for authentication and metadata
	MaxMetadata    = 20
	MaxDescription = 1024 // bytes
	MaxRate        = 10_000.0
	MinRate        = 1.0 / 60
)
