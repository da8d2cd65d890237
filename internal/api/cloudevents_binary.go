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

// contentMode is the position of CloudEvents in a request (their HTTP binding,
// section 1.3).
type contentMode int

const (
	modeNone       contentMode = iota // not a CloudEvent
	modeBinary                        // attributes in headers, the data is the body
	modeStructured                    // one event in the body
	modeBatch                         // an array of events
)

// cloudMode returns the mode by the Content-Type if that is one of CloudEvents,
// otherwise by the headers of required attributes. One of them suffices, so that
// a client that forgets another gets an error. ok is false if the events are in
// a format other than JSON.
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

// mediaType returns a Content-Type without parameters, in lower case.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// parseBinaryCloudEvent parses a CloudEvent 1.0 in binary mode. The attributes
// are strings, decoded by decodeHeader and kept in the order of their names. The
// Content-Type is datacontenttype. A JSON body, also assumed without a
// Content-Type, is the payload, without surrounding white space. Another body
// becomes a JSON string: itself if it is UTF-8, otherwise its base64. An empty
// body is null. The error is Malformed if a JSON body is not valid, and Invalid
// as in parseCloudEvent, but without a pointer.
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

// cloudHeader is a header of an attribute.
type cloudHeader struct {
	name     string // of the attribute
	prefixed bool   // with ce-
	values   []string
}

// cloudHeaders returns the headers of attributes, sorted by name.
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

// decodeHeader returns the value of an attribute's header: it removes quotes,
// then percent-decodes once. Many senders do not encode, so invalid quotes and
// escapes are kept. A URI that would get a space is kept, too: URIs have no
// spaces, so its "%20" belongs to it.
func decodeHeader(name, value string) string {
	value = unquote(value)
	decoded := percentDecode(value)
	if (name == "source" || name == "dataschema") && strings.Contains(decoded, " ") {
		return value
	}
	return decoded
}

// unquote returns the text of a quoted string (RFC 9110, section 5.6.4), or s
// itself if it is not one.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	inner := s[1 : len(s)-1]
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '"':
			return s // it ended before
		case '\\':
			if i++; i == len(inner) {
				return s // it has not ended
			}
		}
		b = append(b, inner[i])
	}
	return string(b)
}

// percentDecode decodes each % that is followed by two hexadecimal digits.
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

// binaryPayload returns the payload for a body in binary mode. isBinary reports
// whether it is base64.
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

// isJSONData reports whether a datacontenttype means JSON for the JSON format of
// CloudEvents (section 3.1.1): a subtype json or +json, or an absent type.
func isJSONData(contentType string) bool {
	_, subtype, _ := strings.Cut(mediaType(contentType), "/")
	return contentType == "" || subtype == "json" || strings.HasSuffix(subtype, "+json")
}

// textPayload returns UTF-8 as a JSON string.
func textPayload(text []byte) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // escapes would triple the size of markup
	if err := encoder.Encode(string(text)); err != nil {
		return nil, err // a string always encodes
	}
	return bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}
