package api

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"triggerd/internal/trigger"
)

// contentMode is how CloudEvents stand in a request (their HTTP binding,
// section 1.3).
type contentMode int

const (
	modeNone       contentMode = iota // no CloudEvent
	modeBinary                        // attributes in headers, the data is the body
	modeStructured                    // one event in the body
	modeBatch                         // an array of them
)

// cloudMode tells the mode by the Content-Type, which decides alone where it is
// one of CloudEvents, else by the headers of required attributes: one of them
// is enough, so that what forgets another is told so. It is not ok if the
// events come in a format other than JSON.
func cloudMode(h http.Header) (mode contentMode, ok bool) {
	media := mediaType(h.Get("Content-Type"))
	if format, is := strings.CutPrefix(media, "application/cloudevents-batch"); is {
		return modeBatch, format == "" || format == "+json"
	}
	if format, is := strings.CutPrefix(media, "application/cloudevents"); is {
		return modeStructured, format == "" || format == "+json"
	}
	for _, name := range requiredAttributes() {
		if h.Get("Ce-"+name) != "" {
			return modeBinary, true
		}
	}
	return modeNone, true
}

// mediaType is a Content-Type without its parameters, in lower case.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// parseBinaryCloudEvent reads a CloudEvent 1.0 in binary mode. The attributes
// are strings, decoded as decodeHeader says, and kept in the order of their
// names; the Content-Type is datacontenttype. A body of JSON, which it also is
// without a Content-Type, is the payload, without the white space around it.
// Another one becomes a JSON string if it is UTF-8, else one of its base64. No
// body is null. Malformed if a body of JSON cannot be read. Invalid where
// parseCloudEvent says so; a header has no pointer.
func parseBinaryCloudEvent(orgID int64, h http.Header, body []byte) (*trigger.Event, error) {
	a := attributes{inHeaders: true, seen: map[string]bool{}}
	for _, header := range cloudHeaders(h) {
		value := header.values[0]
		switch {
		case len(header.values) > 1:
			return nil, a.fault(header.name, "must appear only once")
		case header.name != "datacontenttype": // a Content-Type is not encoded
			value = decodeHeader(header.name, value)
		case header.prefixed:
			return nil, trigger.Errorf(trigger.Invalid, "ce-datacontenttype must not be set: use the Content-Type")
		case value == "":
			continue
		}
		result := gjson.Result{Type: gjson.String, Str: value, Raw: string(trigger.AppendString(nil, value))}
		if err := a.add(header.name, result); err != nil {
			return nil, err
		}
	}
	payload, isBinary, err := binaryPayload(h.Get("Content-Type"), body)
	if err != nil {
		return nil, err
	}
	return a.event(orgID, payload, isBinary)
}

// cloudHeader is a header that stands for an attribute.
type cloudHeader struct {
	name     string // the attribute's
	prefixed bool   // ce-
	values   []string
}

// cloudHeaders picks the headers of attributes, sorted by name.
func cloudHeaders(h http.Header) (headers []cloudHeader) {
	for key, values := range h {
		key = strings.ToLower(key)
		name, prefixed := strings.CutPrefix(key, "ce-")
		if key == "content-type" {
			name = "datacontenttype"
		}
		if len(values) > 0 && name != key {
			headers = append(headers, cloudHeader{name, prefixed, values})
		}
	}
	slices.SortFunc(headers, func(a, b cloudHeader) int { return cmp.Compare(a.name, b.name) })
	return headers
}

// decodeHeader gives the value of an attribute in a header: quotes around it
// are taken off, then it is percent-decoded, once. Many senders do not encode,
// so what is not quoted or encoded well is taken as it is, and so is a URI that
// would get a space: URIs have none, hence its "%20" is its own.
func decodeHeader(name, value string) string {
	value = unquote(value)
	decoded := percentDecode(value)
	if (name == "source" || name == "dataschema") && strings.Contains(decoded, " ") {
		return value
	}
	return decoded
}

// unquote reads a quoted string (RFC 9110, section 5.6.4). What is none is
// given back.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	inner := s[1 : len(s)-1]
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '"':
			return s // it has ended before
		case '\\':
			if i++; i == len(inner) {
				return s // it has not ended
			}
		}
		b = append(b, inner[i])
	}
	return string(b)
}

// percentDecode decodes each % that two hexadecimal digits follow.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// binaryPayload makes the payload of a body in binary mode; isBinary says that
// it stands in base64.
func binaryPayload(contentType string, body []byte) (payload []byte, isBinary bool, err error) {
	switch {
	case len(body) == 0:
		return []byte("null"), false, nil
	case isJSONData(contentType):
		if err := checkJSON(body); err != nil {
			return nil, false, err
		}
		return keep(body, bytes.Trim(body, jsonSpace)), false, nil
	case utf8.Valid(body):
		payload, err = textPayload(body)
		return payload, false, err
	}
	payload = append(make([]byte, 0, base64.StdEncoding.EncodedLen(len(body))+len(`""`)), '"')
	payload = base64.StdEncoding.AppendEncode(payload, body)
	return append(payload, '"'), true, nil
}

// isJSONData reports whether a datacontenttype says JSON, as the JSON format of
// CloudEvents has it (section 3.1.1): a subtype json or +json, or none at all.
func isJSONData(contentType string) bool {
	_, subtype, _ := strings.Cut(mediaType(contentType), "/")
	return contentType == "" || subtype == "json" || strings.HasSuffix(subtype, "+json")
}

// textPayload writes UTF-8 as a JSON string.
func textPayload(text []byte) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // it would triple markup
	if err := encoder.Encode(string(text)); err != nil {
		return nil, err // a string always encodes
	}
	return bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}
