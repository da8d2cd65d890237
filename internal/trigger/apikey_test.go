package trigger_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

func TestMayMake(t *testing.T) {
	t.Parallel()
	nets := func(list ...string) (prefixes []netip.Prefix) {
		for _, text := range list {
			prefixes = append(prefixes, netip.MustParsePrefix(text))
		}
		return prefixes
	}
	ends := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const two = trigger.ScopeRead | trigger.ScopeManage
	type key = trigger.APIKey
	for name, c := range map[string]struct {
		asks, other key
		kind        trigger.Kind
		at, words   string // at is "" where the other may be made
	}{
		"the same":          {key{Scopes: two, Networks: nets("10.0.0.0/8"), ExpiresAt: ends}, key{Scopes: two, Networks: nets("10.0.0.0/8"), ExpiresAt: ends}, 0, "", ""},
		"less":              {key{Scopes: two}, key{Scopes: trigger.ScopeRead, Networks: nets("::/0"), ExpiresAt: ends}, 0, "", ""},
		"another scope":     {key{Scopes: two}, key{Scopes: trigger.AllScopes}, trigger.Forbidden, "", "scopes must not include ingest: this key has only read, manage"},
		"anywhere":          {key{Networks: nets("10.0.0.0/8")}, key{}, trigger.Invalid, "#/networks", "networks must lie within the networks of this key, [10.0.0.0/8]; got an empty list"},
		"a wider network":   {key{Networks: nets("10.0.0.0/8")}, key{Networks: nets("10.0.0.0/7")}, trigger.Invalid, "#/networks/0", "networks must lie within the networks of this key, [10.0.0.0/8]; got 10.0.0.0/7"},
		"the second":        {key{Networks: nets("10.0.0.0/8", "2001:db8::/32")}, key{Networks: nets("2001:db8:1::/48", "11.0.0.0/8")}, trigger.Invalid, "#/networks/1", "11.0.0.0/8"},
		"the other family":  {key{Networks: nets("0.0.0.0/0")}, key{Networks: nets("::/0")}, trigger.Invalid, "#/networks/0", "::/0"},
		"never":             {key{ExpiresAt: ends}, key{}, trigger.Invalid, "#/expires_at", "expires_at must not be after this key ends, at 2026-01-02T03:04:05.000Z; got never"},
		"a moment later":    {key{ExpiresAt: ends}, key{ExpiresAt: ends.Add(time.Microsecond)}, trigger.Invalid, "#/expires_at", "expires_at must not be after this key ends, at 2026-01-02T03:04:05.000Z; got 2026-01-02T03:04:05.000Z"},
		"a moment earlier":  {key{ExpiresAt: ends}, key{ExpiresAt: ends.Add(-time.Microsecond)}, 0, "", ""},
		"within one of two": {key{Networks: nets("10.0.0.0/8", "11.0.0.0/8")}, key{Networks: nets("11.1.0.0/16", "10.0.0.1/32")}, 0, "", ""},
	} {
		err := c.asks.MayMake(&c.other)
		if c.words == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if trigger.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
			continue
		}
		if fields := err.(*trigger.Error).Fields; c.at != "" && (len(fields) != 1 || fields[0].Pointer != c.at) || c.at == "" && fields != nil {
			t.Errorf("%s: at %v, want %q", name, fields, c.at)
		}
	}
}
