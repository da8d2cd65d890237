package trigger

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Limits of a host name (RFC 1035, section 2.3.4), in bytes.
const (
	maxLabel = 63
	maxHost  = 253
)

// ParseTarget reads a webhook's URL. It must be absolute, http or https, at most
// 2048 bytes, without userinfo, with a host of ASCII labels that DNS accepts (an
// international name in its xn-- form), and with a port from 1 to 65535 if any.
// A host that ends in a number must be an IPv4 address in its usual form,
// because resolvers also read decimal, octal, hexadecimal and short forms as
// addresses. Other URLs are Invalid. deliver.Guard checks the addresses.
//
// In the result, characters that a path or query must not have (RFC 3986), for
// example spaces, quotes and non-ASCII characters, are percent-encoded. Existing
// escapes must be valid and stay.
func ParseTarget(raw string) (*url.URL, error) {
	if err := checkText("url", raw, MaxURL); err != nil {
		return nil, err
	}
	if strings.TrimSpace(raw) != raw {
		return nil, Errorf(Invalid, "url must not begin or end with white space")
	}
	if bad := badEscape(raw); bad != "" {
		return nil, Errorf(Invalid, "url has %q where a percent sign must be followed by two hexadecimal digits: write %%25 for the sign itself", bad)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, Errorf(Invalid, "url must be an absolute http or https URL, for example https://example.com/hook")
	case u.User != nil:
		return nil, Errorf(Invalid, "url must not contain a user name or password")
	}
	if err := checkHost(u.Hostname()); err != nil {
		return nil, err
	}
	if port, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16); err != nil || port == 0 {
		return nil, Errorf(Invalid, "url must have a port from 1 to 65535; got %.60s", u.Port())
	}
	path := encode(cmp.Or(u.RawPath, u.EscapedPath()))
	if u.Path, err = url.PathUnescape(path); err != nil {
		return nil, Errorf(Invalid, "url must be an absolute http or https URL, for example https://example.com/hook")
	}
	u.RawPath, u.RawQuery = path, encode(u.RawQuery)
	return u, nil
}

// Origin returns the scheme, host and port of a URL in one form, for example
// "https://example.com:443": two URLs that differ in it may lead to different
// receivers (RFC 6454, section 4). It returns "" if ParseTarget returns an error.
func Origin(raw string) string {
	u, err := ParseTarget(raw)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// checkHost returns an error unless a host is an address or a valid name.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	switch name := strings.TrimSuffix(host, "."); {
	case strings.ContainsFunc(host, notInHost):
		return Errorf(Invalid, "url must have a host of ASCII letters, digits, dots, hyphens and underscores: write an international name in its xn-- form")
	case endsInNumber(host):
		return Errorf(Invalid, "url must have a valid address as its host: a name must not end in a number")
	case len(name) > maxHost:
		return Errorf(Invalid, "url must have a host of at most %d characters; got %d", maxHost, len(name))
	default:
		for label := range strings.SplitSeq(name, ".") {
			if label == "" || len(label) > maxLabel {
				return Errorf(Invalid, "url must have 1 to %d characters in each part of the host between dots; got %d", maxLabel, len(label))
			}
		}
	}
	return nil
}

// notInHost reports whether a host name must not have r.
func notInHost(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._", r)
}

// endsInNumber implements the WHATWG URL rule of that name: the last label,
// without a final dot, is all digits or hexadecimal after "0x".
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	label := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return label != "" && strings.Trim(label, "0123456789") == ""
}

// badEscape returns the first percent sign without two hexadecimal digits, and
// what follows it; "" if all are valid.
func badEscape(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && !(i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])) {
			return strings.ToValidUTF8(s[i:min(i+3, len(s))], "")
		}
	}
	return ""
}

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

// encode percent-encodes the bytes that inURL does not report.
func encode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; inURL(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// inURL reports whether a path or query may have c: by RFC 3986, and also the
// percent sign and brackets, which are common in queries.
func inURL(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/?%[]", c) >= 0
}
