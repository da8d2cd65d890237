package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// isKind reports an error that is not of this kind.
func isKind(t *testing.T, what string, err error, kind trigger.Kind) {
	t.Helper()
	if err == nil || trigger.KindOf(err) != kind {
		t.Errorf("%s: %v, want kind %d", what, err, kind)
	}
}

// leastSchema is which programs may open the database.
func leastSchema(t *testing.T, db *storetest.DB) (least int) {
	t.Helper()
	if err := db.SQL(t).QueryRowContext(t.Context(), `SELECT least FROM compatibility`).Scan(&least); err != nil {
		t.Fatal(err)
	}
	return least
}

func organization(t *testing.T, s *store.Store, id int64) trigger.Organization {
	t.Helper()
	o, err := s.Organization(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestOrganizationRoundTrip(t *testing.T) {
	t.Parallel()
	none, some := 0, 1_000_000_000
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		before, plain := leastSchema(t, db), true
		for i, o := range []trigger.Organization{
			{Name: "O", Tier: trigger.Free},
			{Name: "É\"'; --", Tier: trigger.Professional, Inbox: trigger.Unmatched, Deduplication: trigger.Lenient},
			{Name: "O", Tier: trigger.Enterprise, RateLimit: &none},
			{Name: "O", Tier: trigger.Free, RateLimit: &some, Inbox: trigger.Everything, Deduplication: trigger.Strict},
		} {
			id, err := s.AddOrganization(t.Context(), o, trigger.APIKey{Hash: [32]byte{byte(i), 2}, Prefix: "sk_123456"}, store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			got := organization(t, s, id)
			if age := s.Now().Sub(got.CreatedAt); age < 0 || age > time.Minute {
				t.Errorf("made %v ago", age)
			}
			o.ID, o.CreatedAt = id, got.CreatedAt
			if o.Inbox == "" {
				o.Inbox, o.Deduplication = trigger.Unmatched, trigger.Lenient
			}
			if diff := cmp.Diff(o, got); diff != "" {
				t.Error(diff)
			}
			key, err := s.APIKeyByHash(t.Context(), [32]byte{byte(i), 2})
			if diff := cmp.Diff(got, key.Organization); err != nil || diff != "" || key.Scopes != trigger.AllScopes || key.Prefix != "sk_123456" {
				t.Errorf("its key %+v: %v %s", key, err, diff)
			}
			if plain = plain && o.RateLimit == nil && o.Inbox == trigger.Unmatched; plain && leastSchema(t, db) != before {
				t.Errorf("%+v ends older programs, which would do it no harm", o)
			}
		}
		if least := leastSchema(t, db); least < 4 {
			t.Errorf("programs of schema %d may go on, which know no settings of organizations", least)
		}
		_, err := s.Organization(t.Context(), 99)
		isKind(t, "no such organization", err, trigger.NotFound)
		var ids []int64
		for after := int64(0); ; {
			page, err := s.ListOrganizations(t.Context(), after, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page {
				if diff := cmp.Diff(organization(t, s, o.ID), o); diff != "" {
					t.Error(diff)
				}
				ids, after = append(ids, o.ID), o.ID
			}
			if len(page) < 3 {
				break
			}
		}
		if len(ids) != 4 || ids[0] >= ids[1] || ids[1] >= ids[2] || ids[2] >= ids[3] {
			t.Errorf("listed %v", ids)
		}
	})
}

func TestSetOrganization(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		id, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		was, others := organization(t, s, id), organization(t, s, other)
		set := func(change func(*trigger.Organization)) trigger.Organization {
			t.Helper()
			got, err := s.SetOrganization(t.Context(), id, func(o *trigger.Organization) error { change(o); return nil })
			if err != nil {
				t.Fatal(err)
			}
			stored := organization(t, s, id)
			if diff := cmp.Diff(stored, got); diff != "" {
				t.Errorf("it says another thing than is stored: %s", diff)
			}
			return stored
		}
		limit := 5
		got := set(func(o *trigger.Organization) {
			o.Name, o.Tier, o.RateLimit, o.Suspended = "New", trigger.Enterprise, &limit, true
			o.Inbox, o.Deduplication = trigger.Everything, trigger.Strict
		})
		want := trigger.Organization{
			ID: id, Name: "New", Tier: trigger.Enterprise, Version: got.Version, Suspended: true, CreatedAt: was.CreatedAt,
			RateLimit: &limit, Inbox: trigger.Everything, Deduplication: trigger.Strict,
		}
		if diff := cmp.Diff(want, got); diff != "" || got.Version <= was.Version {
			t.Errorf("version %d after %d: %s", got.Version, was.Version, diff)
		}
		if leastSchema(t, db) < 4 {
			t.Error("older programs go on, and would send for a suspended organization")
		}
		refusal := errors.New("no")
		_, err := s.SetOrganization(t.Context(), id, func(o *trigger.Organization) error { o.Name = "Other"; return refusal })
		if !errors.Is(err, refusal) {
			t.Errorf("refused with %v", err)
		}
		if diff := cmp.Diff(want, organization(t, s, id)); diff != "" {
			t.Errorf("a refused change: %s", diff)
		}
		got = set(func(o *trigger.Organization) {
			o.RateLimit, o.Inbox, o.Deduplication, o.Suspended = nil, trigger.Unmatched, trigger.Lenient, false
		})
		if got.RateLimit != nil || got.Inbox != trigger.Unmatched || got.Deduplication != trigger.Lenient || got.Suspended || got.ID != id {
			t.Errorf("reset to %+v", got)
		}
		if diff := cmp.Diff(others, organization(t, s, other)); diff != "" {
			t.Errorf("another one: %s", diff)
		}
		_, err = s.SetOrganization(t.Context(), 99, func(*trigger.Organization) error { return nil })
		isKind(t, "no such organization", err, trigger.NotFound)
	})
}

func TestDeleteOrganization(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		id, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		hook, theirs := newWebhook(t, s, id, ""), newWebhook(t, s, other, "")
		key := addKey(t, s, id, trigger.APIKey{Scopes: trigger.AllScopes})
		kept := addKey(t, s, other, trigger.APIKey{Scopes: trigger.AllScopes})
		if err := s.DeleteOrganization(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		ctx, change := t.Context(), func(*trigger.Organization) error { return nil }
		for what, do := range map[string]func(id int64, key trigger.APIKey, hook int64) error{
			"1 its key": func(_ int64, key trigger.APIKey, _ int64) error { _, err := s.APIKeyByHash(ctx, key.Hash); return err },
			"2 its key": func(id int64, key trigger.APIKey, _ int64) error { _, err := s.APIKey(ctx, id, key.ID); return err },
			"3 a new key": func(id int64, _ trigger.APIKey, _ int64) error {
				_, err := s.AddAPIKey(ctx, id, newKey(), store.Once{})
				return err
			},
			"4 read": func(id int64, _ trigger.APIKey, _ int64) error { _, err := s.Organization(ctx, id); return err },
			"5 change": func(id int64, _ trigger.APIKey, _ int64) error {
				_, err := s.SetOrganization(ctx, id, change)
				return err
			},
			"6 its webhook": func(id int64, _ trigger.APIKey, hook int64) error {
				return s.SetWebhookState(ctx, id, hook, trigger.Active)
			},
			"7 delete": func(id int64, _ trigger.APIKey, _ int64) error { return s.DeleteOrganization(ctx, id) },
		} {
			isKind(t, what, do(id, key, hook), trigger.NotFound)
			if what[0] == '7' {
				continue
			}
			if err := do(other, kept, theirs); err != nil {
				t.Errorf("%s of another one: %v", what, err)
			}
		}
		if keys, err := s.ListAPIKeys(ctx, id, 0, 10); err != nil || len(keys) > 0 {
			t.Errorf("%d keys are listed: %v", len(keys), err)
		}
		if list, err := s.ListOrganizations(ctx, 0, 10); err != nil || len(list) != 1 || list[0].ID != other {
			t.Errorf("listed %+v: %v", list, err)
		}
		if leastSchema(t, db) < 4 {
			t.Error("older programs go on, which take the organization for alive")
		}
	})
}
