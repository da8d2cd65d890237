package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

func setEventType(t *testing.T, s *store.Store, orgID int64, et trigger.EventType) (set trigger.EventType, added bool) {
	t.Helper()
	set, added, err := s.SetEventType(t.Context(), orgID, et)
	if err != nil {
		t.Fatal(err)
	}
	return set, added
}

func TestEventTypes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		et := trigger.EventType{Name: "a/ü", Mode: trigger.ValidationReject, Schema: []byte("{ \"title\":\"\\u0000é\" }\n"), Description: "d\n"}
		first, added := setEventType(t, s, org, et)
		et.CreatedAt, et.UpdatedAt = first.CreatedAt, first.CreatedAt
		if diff := cmp.Diff(et, first); diff != "" || !added || first.CreatedAt.IsZero() {
			t.Errorf("added %v: %s", added, diff)
		}
		if got, err := s.EventType(t.Context(), org, "a/ü"); err != nil || !cmp.Equal(got, first) {
			t.Errorf("%+v %v", got, err)
		}
		db.Clock.Advance(time.Second)
		if err := s.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		second, added := setEventType(t, s, org, trigger.EventType{Name: "a/ü", Mode: trigger.ValidationOff})
		if added || second.Schema != nil || second.Description != "" || second.Mode != trigger.ValidationOff ||
			!second.CreatedAt.Equal(first.CreatedAt) || !second.UpdatedAt.After(first.UpdatedAt) {
			t.Errorf("replaced, added %v: %+v", added, second)
		}
		for _, err := range []error{
			s.DeleteEventType(t.Context(), other, "a/ü"), s.DeleteEventType(t.Context(), org, "A/ü"), s.DeleteEventType(t.Context(), 1<<40, "a/ü"),
		} {
			if trigger.KindOf(err) != trigger.NotFound {
				t.Errorf("%v", err)
			}
		}
		if _, err := s.EventType(t.Context(), other, "a/ü"); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("%v", err)
		}
		if _, _, err := s.SetEventType(t.Context(), 1<<40, trigger.EventType{Name: "a", Mode: trigger.ValidationOff}); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("no organization: %v", err)
		}
		if _, _, err := s.SetEventType(t.Context(), org, trigger.EventType{Name: "a\n", Mode: trigger.ValidationOff}); trigger.KindOf(err) != trigger.Invalid {
			t.Errorf("no name: %v", err)
		}
		if err := s.DeleteEventType(t.Context(), org, "a/ü"); err != nil {
			t.Error(err)
		}
		if err := s.DeleteEventType(t.Context(), org, "a/ü"); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("%v", err)
		}
	})
}

// Pages go on by the bytes of the names, whatever the database's language is.
func TestListEventTypes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		want := []string{"A", "B.x", "_", "a", "a b", "a.b", "ab", "b", "ä", "€"}
		for i := range want {
			setEventType(t, s, org, trigger.EventType{Name: want[(i*7)%len(want)], Mode: trigger.ValidationWarn})
		}
		setEventType(t, s, other, trigger.EventType{Name: "aa", Mode: trigger.ValidationWarn})
		var names []string
		for after := ""; ; {
			page, err := s.ListEventTypes(t.Context(), org, after, 3)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page {
				names = append(names, page[i].Name)
			}
			if len(page) < 3 {
				break
			}
			after = page[2].Name
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
	})
}

// Every change is a new version, which comes with the key; what fails is none.
func TestJudgedEventTypes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		wants := func(what string, version int64, want ...string) {
			t.Helper()
			list, got, err := s.JudgedTypes(t.Context(), org)
			names := make([]string, len(list))
			for i := range list {
				names[i] = list[i].Name + " " + string(list[i].Mode) + " " + string(list[i].Schema)
			}
			if err != nil || got != version || fmt.Sprint(names) != fmt.Sprint(want) {
				t.Errorf("%s: version %d of %v: %v", what, got, names, err)
			}
			o, err := s.Organization(t.Context(), org)
			if err != nil || o.TypesVersion != version {
				t.Errorf("%s: the organization has version %d: %v", what, o.TypesVersion, err)
			}
		}
		wants("new", 0)
		schema := []byte(`{"type":"null"}`)
		setEventType(t, s, org, trigger.EventType{Name: "a", Mode: trigger.ValidationReject, Schema: schema})
		wants("one", 1, `a reject {"type":"null"}`)
		setEventType(t, s, org, trigger.EventType{Name: "b", Mode: trigger.ValidationWarn})
		wants("without a schema", 2, `a reject {"type":"null"}`)
		setEventType(t, s, org, trigger.EventType{Name: "c", Mode: trigger.ValidationOff, Schema: schema})
		wants("off", 3, `a reject {"type":"null"}`)
		if err := s.DeleteEventType(t.Context(), org, "zz"); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("%v", err)
		}
		wants("nothing deleted", 3, `a reject {"type":"null"}`)
		if err := s.DeleteEventType(t.Context(), org, "a"); err != nil {
			t.Error(err)
		}
		wants("deleted", 4)
		if _, _, err := s.JudgedTypes(t.Context(), 1<<40); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("no organization: %v", err)
		}
	})
}

// There are 500 at most, however many ask at a time.
func TestTooManyEventTypes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		for i := range trigger.MaxEventTypes - 5 {
			setEventType(t, s, org, trigger.EventType{Name: fmt.Sprint("t", i), Mode: trigger.ValidationOff})
		}
		var asking sync.WaitGroup
		errs := make([]error, 12)
		for i := range errs {
			asking.Go(func() {
				_, _, errs[i] = s.SetEventType(t.Context(), org, trigger.EventType{Name: fmt.Sprint("more", i), Mode: trigger.ValidationOff})
			})
		}
		asking.Wait()
		conflicts := 0
		for _, err := range errs {
			if err != nil && trigger.KindOf(err) != trigger.Conflict {
				t.Errorf("%v", err)
			}
			if err != nil {
				conflicts++
			}
		}
		list, err := s.ListEventTypes(t.Context(), org, "", 1000)
		if err != nil || len(list) != trigger.MaxEventTypes || conflicts != 7 {
			t.Errorf("%d types, %d conflicts: %v", len(list), conflicts, err)
		}
		if _, added := setEventType(t, s, org, trigger.EventType{Name: "t0", Mode: trigger.ValidationOff}); added {
			t.Error("one that was there is new")
		}
	})
}
