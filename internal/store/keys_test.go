package store_test

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// newKey makes a key that is not stored.
func newKey() trigger.APIKey {
	key := trigger.APIKey{Prefix: "sk_abcdef", Scopes: trigger.AllScopes}
	_, _ = rand.Read(key.Hash[:])
	return key
}

// addKey stores a key with a hash of its own, and gives it as it was asked for.
func addKey(t *testing.T, s *store.Store, orgID int64, key trigger.APIKey) trigger.APIKey {
	t.Helper()
	fresh := newKey()
	key.Hash, key.Prefix = fresh.Hash, fresh.Prefix
	id, err := s.AddAPIKey(t.Context(), orgID, key, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	key.ID = id
	return key
}

// firstKey is the id of the key that an organization was made with.
func firstKey(t *testing.T, s *store.Store, orgID int64) int64 {
	t.Helper()
	keys, err := s.ListAPIKeys(t.Context(), orgID, 0, 1)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys: %v", len(keys), err)
	}
	return keys[0].ID
}

// isGood reports whether a key can be used.
func isGood(t *testing.T, s *store.Store, key trigger.APIKey) bool {
	t.Helper()
	_, err := s.APIKeyByHash(t.Context(), key.Hash)
	if err != nil && trigger.KindOf(err) != trigger.NotFound {
		t.Fatal(err)
	}
	return err == nil
}

func comparePrefixes() cmp.Option {
	return cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
}

func TestKeyRoundTrip(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		before := leastSchema(t, db)
		addKey(t, s, org, trigger.APIKey{Name: "its name is no matter", Scopes: trigger.AllScopes})
		if leastSchema(t, db) != before {
			t.Error("a key that older programs know ends them")
		}
		var ids []int64
		for _, key := range []trigger.APIKey{
			{Scopes: trigger.ScopeIngest},
			{Name: "É'\"--", Scopes: trigger.ScopeRead | trigger.ScopeManage},
			{Scopes: trigger.AllScopes, ExpiresAt: s.Now().Add(time.Hour)},
			{Scopes: trigger.AllScopes, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}},
		} {
			key = addKey(t, s, org, key)
			got, err := s.APIKey(t.Context(), org, key.ID)
			if age := s.Now().Sub(got.CreatedAt); err != nil || age < 0 || age > time.Minute {
				t.Errorf("made %v ago: %v", age, err)
			}
			want := key
			want.CreatedAt, want.Hash = got.CreatedAt, [32]byte{} // which is not shown
			if diff := cmp.Diff(want, got, comparePrefixes()); diff != "" {
				t.Error(diff)
			}
			got, err = s.APIKeyByHash(t.Context(), key.Hash)
			want.Hash, want.Organization = key.Hash, organization(t, s, org)
			if diff := cmp.Diff(want, got, comparePrefixes()); err != nil || diff != "" {
				t.Errorf("by its hash: %v %s", err, diff)
			}
			_, err = s.APIKey(t.Context(), other, key.ID)
			isKind(t, "as another's", err, trigger.NotFound)
			isKind(t, "as another's", s.RevokeAPIKey(t.Context(), other, key.ID), trigger.NotFound)
			ids = append(ids, key.ID)
			if leastSchema(t, db) < 4 {
				t.Errorf("older programs go on, which take %+v for a key to everything", key)
			}
		}
		page, err := s.ListAPIKeys(t.Context(), org, ids[0], 2)
		if err != nil || len(page) != 2 || page[0].ID != ids[1] || page[1].ID != ids[2] || page[0].Name != "É'\"--" {
			t.Errorf("listed %+v: %v", page, err)
		}
		for _, key := range []trigger.APIKey{{}, {Scopes: 8}, {Scopes: 7, Name: "a\n"}, {Scopes: 7, Networks: make([]netip.Prefix, 51)}} {
			_, err := s.AddAPIKey(t.Context(), org, key, store.Once{})
			isKind(t, "a bad key", err, trigger.Invalid)
		}
	})
}

// Many hashes at once find what they find one by one.
func TestKeysByHash(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other, deleted := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		expired := addKey(t, s, org, trigger.APIKey{Scopes: trigger.AllScopes, ExpiresAt: s.Now().Add(time.Minute)})
		revoked := addKey(t, s, org, trigger.APIKey{Scopes: trigger.ScopeRead})
		if err := s.RevokeAPIKey(t.Context(), org, revoked.ID); err != nil {
			t.Fatal(err)
		}
		ofDeleted := addKey(t, s, deleted, trigger.APIKey{Scopes: trigger.ScopeRead})
		if err := s.DeleteOrganization(t.Context(), deleted); err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(time.Minute)
		hashes := [][32]byte{expired.Hash, revoked.Hash, ofDeleted.Hash}
		for i := range 10 {
			networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}[:i%3]
			key := addKey(t, s, []int64{org, other}[i%2], trigger.APIKey{Scopes: trigger.ScopeRead, Networks: networks})
			hashes = append(hashes, key.Hash, key.Hash, newKey().Hash)
		}
		for range 400 {
			hashes = append(hashes, newKey().Hash)
		}
		want := map[[32]byte]trigger.APIKey{}
		for _, hash := range hashes {
			if key, err := s.APIKeyByHash(t.Context(), hash); err == nil {
				want[hash] = key
			} else {
				isKind(t, "one by one", err, trigger.NotFound)
			}
		}
		got, err := s.APIKeysByHash(t.Context(), hashes)
		if diff := cmp.Diff(want, got, comparePrefixes()); err != nil || diff != "" || len(got) != 10 {
			t.Errorf("found %d: %v %s", len(got), err, diff)
		}
		if got, err := s.APIKeysByHash(t.Context(), nil); err != nil || len(got) != 0 {
			t.Errorf("of none: %v, %v", got, err)
		}
	})
}

func TestKeyExpiry(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		key := addKey(t, s, org, trigger.APIKey{Scopes: trigger.AllScopes, ExpiresAt: s.Now().Add(time.Hour)})
		db.Clock.Advance(time.Hour - time.Minute)
		if !isGood(t, s, key) {
			t.Error("it has ended early")
		}
		db.Clock.Advance(time.Minute)
		_, err := s.APIKey(t.Context(), org, key.ID)
		isKind(t, "read", err, trigger.NotFound)
		isKind(t, "revoke", s.RevokeAPIKey(t.Context(), org, key.ID), trigger.NotFound)
		_, err = s.RotateAPIKey(t.Context(), store.Rotation{OrganizationID: org, KeyID: key.ID, Next: newKey(), Overlap: 0}, store.Once{})
		isKind(t, "rotate", err, trigger.NotFound)
		if list, err := s.ListAPIKeys(t.Context(), org, 0, 10); isGood(t, s, key) || err != nil || len(list) != 1 {
			t.Errorf("listed %+v: %v", list, err)
		}
	})
}

func TestRotateKey(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		ends := s.Now().Add(10 * time.Hour)
		old := addKey(t, s, org, trigger.APIKey{
			Name: "n", Scopes: trigger.ScopeRead, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ExpiresAt: ends,
		})
		rotate := func(old, next trigger.APIKey, overlap time.Duration) trigger.APIKey {
			t.Helper()
			id, err := s.RotateAPIKey(t.Context(), store.Rotation{OrganizationID: org, KeyID: old.ID, Next: next, Overlap: overlap}, store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.APIKey(t.Context(), org, id)
			want := old
			want.ID, want.Hash, want.CreatedAt = id, [32]byte{}, got.CreatedAt
			if diff := cmp.Diff(want, got, comparePrefixes()); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
			got.Hash = next.Hash
			return got
		}
		next := newKey()
		_, err := s.RotateAPIKey(t.Context(), store.Rotation{OrganizationID: other, KeyID: old.ID, Next: next, Overlap: time.Hour}, store.Once{})
		isKind(t, "as another's", err, trigger.NotFound)
		for what, by := range map[string]struct {
			key  trigger.APIKey
			kind trigger.Kind
		}{
			"that has less":     {trigger.APIKey{Scopes: trigger.ScopeIngest | trigger.ScopeManage}, trigger.Forbidden},
			"that manages not":  {trigger.APIKey{Scopes: trigger.ScopeRead}, trigger.Forbidden},
			"of elsewhere":      {trigger.APIKey{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/9")}}, trigger.Invalid},
			"that ends earlier": {trigger.APIKey{ExpiresAt: ends.Add(-time.Second)}, trigger.Invalid},
		} {
			if by.key.Scopes == 0 {
				by.key.Scopes = trigger.AllScopes
			}
			asks := addKey(t, s, org, by.key)
			_, err = s.RotateAPIKey(t.Context(), store.Rotation{OrganizationID: org, KeyID: old.ID, By: asks.ID, Next: next}, store.Once{})
			if isKind(t, "by one "+what, err, by.kind); !isGood(t, s, old) {
				t.Errorf("by one %s: the key has ended", what)
			}
		}
		next = rotate(old, next, time.Hour)
		last := rotate(next, newKey(), 20*time.Hour) // longer than it has
		if !isGood(t, s, old) || !isGood(t, s, next) || !isGood(t, s, last) {
			t.Error("they are not all good")
		}
		db.Clock.Advance(time.Hour)
		if isGood(t, s, old) || !isGood(t, s, next) || !isGood(t, s, last) {
			t.Error("after the overlap the old one alone is to have ended")
		}
		db.Clock.Advance(9 * time.Hour)
		if isGood(t, s, next) || isGood(t, s, last) {
			t.Error("rotation has made a key last longer")
		}
		first := firstKey(t, s, org)
		if _, err := s.RotateAPIKey(t.Context(), store.Rotation{OrganizationID: org, KeyID: first, Next: newKey(), Overlap: 0}, store.Once{}); err != nil {
			t.Fatal(err)
		}
		_, err = s.APIKey(t.Context(), org, first)
		isKind(t, "without an overlap", err, trigger.NotFound)
	})
}

// One key that manages, and does not expire, is always left; also where two
// revoke each other's.
func TestLastKeyThatManages(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		other := s
		if db.IsPostgres() {
			other = db.Open(t)
		}
		org := storetest.NewOrganization(t, s)
		last := firstKey(t, s, org)
		addKey(t, s, org, trigger.APIKey{Scopes: trigger.ScopeIngest | trigger.ScopeRead})
		brief := addKey(t, s, org, trigger.APIKey{Scopes: trigger.AllScopes, ExpiresAt: s.Now().Add(time.Hour)})
		addKey(t, s, storetest.NewOrganization(t, s), trigger.APIKey{Scopes: trigger.AllScopes})
		isKind(t, "the last one", s.RevokeAPIKey(t.Context(), org, last), trigger.Conflict)
		if err := s.RevokeAPIKey(t.Context(), org, brief.ID); err != nil || isGood(t, s, brief) {
			t.Errorf("one that ends by itself: %v", err)
		}
		for range 10 {
			two := []int64{last, addKey(t, s, org, trigger.APIKey{Scopes: trigger.ScopeManage}).ID}
			errs := make([]error, 2)
			var wg sync.WaitGroup
			wg.Go(func() { errs[0] = s.RevokeAPIKey(t.Context(), org, two[0]) })
			wg.Go(func() { errs[1] = other.RevokeAPIKey(t.Context(), org, two[1]) })
			wg.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("two revoke each other's: %v, %v", errs[0], errs[1])
			}
			if last = two[0]; errs[0] == nil {
				last = two[1]
			}
		}
	})
}

func TestAtMostHundredKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		var ended trigger.APIKey
		for range trigger.MaxKeys - 3 {
			ended = addKey(t, s, org, trigger.APIKey{Scopes: trigger.AllScopes})
		}
		addKey(t, s, org, trigger.APIKey{Scopes: trigger.AllScopes, ExpiresAt: s.Now().Add(time.Minute)})
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.AddAPIKey(t.Context(), org, newKey(), store.Once{}) })
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
				continue
			}
			isKind(t, "one too many", err, trigger.Conflict)
		}
		if made != 1 {
			t.Errorf("%d were made where there was room for one", made)
		}
		if err := s.RevokeAPIKey(t.Context(), org, ended.ID); err != nil {
			t.Fatal(err)
		}
		db.Clock.Advance(time.Minute)
		for range 2 { // in place of what was revoked, and of what has expired
			addKey(t, s, org, trigger.APIKey{Scopes: trigger.AllScopes})
		}
		_, err := s.AddAPIKey(t.Context(), org, newKey(), store.Once{})
		isKind(t, "one too many", err, trigger.Conflict)
	})
}

func TestTouchedKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		one, two := addKey(t, s, org, newKey()), addKey(t, s, org, newKey())
		before := s.Now()
		if err := s.TouchAPIKeys(t.Context(), []int64{one.ID, 99}); err != nil {
			t.Fatal(err)
		}
		used, err := s.APIKey(t.Context(), org, one.ID)
		if err != nil || used.LastUsedAt.Before(before) || used.LastUsedAt.After(s.Now()) {
			t.Errorf("used at %v: %v", used.LastUsedAt, err)
		}
		if other, err := s.APIKey(t.Context(), org, two.ID); err != nil || !other.LastUsedAt.IsZero() {
			t.Errorf("another one was used at %v: %v", other.LastUsedAt, err)
		}
	})
}
