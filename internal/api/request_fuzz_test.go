package api

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

// FuzzParseInbox compares with the contract, said once more as patterns of
// whole values: nothing else gets through, and what is refused is not shown.
func FuzzParseInbox(f *testing.F) {
	for _, query := range []string{"", "status=pending&limit=10", "limit=100", "limit=101", "limit=%31", "limit=1&limit=1", "status=&x=1", "a;b", "%zz"} {
		f.Add(query)
	}
	limits := regexp.MustCompile(`^0*(100|[1-9][0-9]?)$`)
	states := regexp.MustCompile(`^(pending|delivered|failed)$`)
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		limit, state := "10", ""
		valid := err == nil
		if given, ok := values["limit"]; ok {
			limit = given[0]
			valid = valid && len(given) == 1 && limits.MatchString(limit)
		}
		if given, ok := values["status"]; ok {
			state = given[0]
			valid = valid && len(given) == 1 && states.MatchString(state)
		}
		gotState, gotLimit, err := parseInbox(query)
		if !valid {
			if trigger.KindOf(err) != trigger.Invalid || err == nil || len(query) > 20 && strings.Contains(err.Error(), query) {
				t.Errorf("parseInbox(%q): %v", query, err)
			}
			return
		}
		if wantLimit, _ := strconv.Atoi(limit); err != nil || gotLimit != wantLimit || string(gotState) != state || gotLimit < 1 || gotLimit > 100 {
			t.Errorf("parseInbox(%q) = %q, %d, %v; want %q, %s", query, gotState, gotLimit, err, state, limit)
		}
	})
}

// FuzzOperator holds that only the token itself, said as a bearer's, is it. Case
// and spaces count as RFC 9110 (section 11.4) has it: not around a token.
func FuzzOperator(f *testing.F) {
	f.Add("Bearer token", "token")
	f.Add("bearer token", "token")
	f.Add("Bearer ", "token")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, header, token string) {
		if token == "" { // it would be looked up
			token = "token"
		}
		a := API{AdminToken: token, Now: time.Now}
		err := a.operator(&request{Request: &http.Request{Header: http.Header{"Authorization": {header}}}})
		if allowed := isBearer(header, token); allowed != (err == nil) {
			t.Errorf("%q with the token %q: %v", header, token, err)
		}
		if err != nil && (trigger.KindOf(err) != trigger.Unauthorized || err.Error() != "Missing or wrong admin token") {
			t.Errorf("%q with the token %q: %v", header, token, err)
		}
	})
}

func isBearer(header, token string) bool {
	scheme, given, _ := strings.Cut(header, " ")
	return strings.EqualFold(scheme, "bearer") && strings.TrimSpace(given) == token
}

// FuzzContentType holds that a body is taken only if it is said to be JSON, or
// if nothing is said. Above all, none of the types is taken that browsers send
// to other sites without asking them first.
func FuzzContentType(f *testing.F) {
	for _, contentType := range []string{
		"", "application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/plain; x=application/json", "multipart/form-data; boundary=+json", "text/plain+json ;",
	} {
		f.Add(contentType, "")
	}
	f.Add("application/json", "gzip")
	f.Add("application/json", "identity")
	plain := regexp.MustCompile(`^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$`)
	f.Fuzz(func(t *testing.T, contentType, encoding string) {
		taken := isJSON(http.Header{"Content-Type": {contentType}, "Content-Encoding": {encoding}})
		media, _, _ := strings.Cut(contentType, ";")
		media = strings.ToLower(strings.TrimSpace(media))
		isJSON := media == "application/json" || strings.HasSuffix(media, "+json")
		switch encoded := encoding != "" && !strings.EqualFold(encoding, "identity"); {
		case taken && (encoded || contentType != "" && !isJSON):
			t.Errorf("%q, encoded as %q, is taken for JSON", contentType, encoding)
		case !taken && !encoded && (contentType == "" || isJSON && plain.MatchString(contentType)):
			t.Errorf("%q, encoded as %q, is not taken for JSON", contentType, encoding)
		}
	})
}
