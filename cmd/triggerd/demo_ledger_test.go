package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// a POST of the event e1, and the delivery that it should get
func postOf(dedupID, status, eventID string) posting {
	return posting{
		dedupID: dedupID, status: status, eventID: eventID, sent: time.Unix(100, 0),
		example: example{Type: "push", Payload: []byte(`{ "a":1 }`)},
	}
}

func arrivalOf(eventID, eventType, data, trouble string) arrival {
	return arrival{eventID: eventID, eventType: eventType, data: []byte(data), trouble: trouble, at: time.Unix(101, 0)}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	first, again := postOf("d1", "accepted", "e1"), postOf("d1", "duplicate", "e1")
	good := arrivalOf("e1", "push", `{ "a":1 }`, "")
	type notes = []any
	tests := []struct {
		name  string
		notes notes // postings and arrivals, in any order
		want  tally
	}{
		{"nothing", notes{}, tally{}},
		{"delivered", notes{first, good}, tally{Accepted: 1, Delivered: 1}},
		{"duplicate", notes{first, again, good}, tally{Accepted: 1, Duplicates: 1, Delivered: 1}},
		{"arrived twice", notes{first, good, good}, tally{Accepted: 1, Delivered: 1, Again: 1}},
		{"missing", notes{first, again}, tally{Accepted: 1, Duplicates: 1, Findings: []finding{{missing, "push", "e1"}}}},
		{
			"another payload",
			notes{first, arrivalOf("e1", "push", `{"a":1}`, "")},
			tally{Accepted: 1, Findings: []finding{{changed, "push", "e1"}}},
		},
		{
			"another type",
			notes{first, arrivalOf("e1", "pull", `{ "a":1 }`, "")},
			tally{Accepted: 1, Findings: []finding{{changed, "push", "e1"}}},
		},
		{
			"changed the second time",
			notes{first, good, arrivalOf("e1", "push", "", "")},
			tally{Accepted: 1, Findings: []finding{{changed, "push", "e1"}}},
		},
		{
			"badly signed, then well",
			notes{first, arrivalOf("e1", "", "", badlySigned), good},
			tally{Accepted: 1, Findings: []finding{{badlySigned, "push", "e1"}}},
		},
		{"unknown", notes{good}, tally{Findings: []finding{{unknown, "push", "e1"}}}},
		{"unknown and badly signed", notes{arrivalOf("e1", "", "", badlySigned)}, tally{Findings: []finding{{badlySigned, "", "e1"}}}},
		{
			"accepted twice",
			notes{first, postOf("d1", "accepted", "e2"), good, arrivalOf("e2", "push", `{ "a":1 }`, "")},
			tally{Accepted: 2, Delivered: 2, Findings: []finding{{wronglyAnswered, "push", "e2"}}},
		},
		{
			"accepted twice as one",
			notes{first, first, good},
			tally{Accepted: 2, Delivered: 1, Findings: []finding{{wronglyAnswered, "push", "e1"}}},
		},
		{
			"two as one",
			notes{first, postOf("d2", "accepted", "e1"), good},
			tally{Accepted: 2, Delivered: 1, Findings: []finding{{wronglyAnswered, "push", "e1"}}},
		},
		{
			"duplicate of another",
			notes{first, postOf("d1", "duplicate", "e2"), good},
			tally{Accepted: 1, Delivered: 1, Findings: []finding{{wronglyAnswered, "push", "e2"}}},
		},
		{"duplicate of none", notes{again}, tally{Findings: []finding{{wronglyAnswered, "push", "e1"}}}},
		{"neither", notes{postOf("d1", "ok", "e1")}, tally{Findings: []finding{{wronglyAnswered, "push", "e1"}}}},
	}
	for _, tt := range tests {
		if tt.want.Delivered > 0 {
			tt.want.P50, tt.want.P99 = time.Second, time.Second
		}
		for range 2 { // in this order, and backwards
			if diff := cmp.Diff(tt.want, tallyOf(tt.notes)); diff != "" {
				t.Errorf("%s: %s", tt.name, diff)
			}
			if (tallyOf(tt.notes).err() == nil) != (len(tt.want.Findings) == 0) {
				t.Errorf("%s: error %v", tt.name, tallyOf(tt.notes).err())
			}
			if tt.name == "accepted twice" { // which of the two is wrong follows from the order
				break
			}
			slices.Reverse(tt.notes)
		}
	}
}

func tallyOf(notes []any) tally {
	l := newLedger(func(posting, arrival, string) {})
	for _, note := range notes {
		switch n := note.(type) {
		case posting:
			l.answered(n)
		case arrival:
			l.arrived(n)
		}
	}
	return l.tally()
}

func TestLedgerComplete(t *testing.T) {
	t.Parallel()
	l := newLedger(func(posting, arrival, string) {})
	complete := func() bool {
		select {
		case <-l.complete:
			return true
		default:
			return false
		}
	}
	good := arrivalOf("e1", "push", `{ "a":1 }`, "")
	for i, step := range []struct {
		do   func()
		want bool
	}{
		{func() { l.arrived(good) }, false},
		{func() { l.answered(postOf("d1", "accepted", "e1")) }, false},
		{func() { l.answered(postOf("d2", "accepted", "e2")) }, false},
		{func() { l.answered(postOf("d2", "duplicate", "e2")) }, false},
		{func() { l.allPosted() }, false},
		{func() { l.arrived(good) }, false},
		{func() { l.arrived(arrivalOf("e2", "", "", badlySigned)) }, true},
		{func() { l.arrived(good) }, true},
	} {
		step.do()
		if complete() != step.want {
			t.Errorf("step %d: complete is %v", i, !step.want)
		}
	}
	none := newLedger(nil)
	none.allPosted()
	<-none.complete
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, tt := range []struct {
		of      []time.Duration
		percent int
		want    time.Duration
	}{
		{nil, 50, 0},
		{hundred[:1], 50, 1},
		{hundred[:1], 99, 1},
		{hundred[:3], 50, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred[:10], 99, 10},
	} {
		if got := percentile(tt.of, tt.percent); got != tt.want {
			t.Errorf("p%d of %d: %d, want %d", tt.percent, len(tt.of), got, tt.want)
		}
	}
}

// TestDemoReceiver sends deliveries as a faulty server might, signed with the
// library of Standard Webhooks.
func TestDemoReceiver(t *testing.T) {
	t.Parallel()
	webhook, err := standardwebhooks.NewWebhookRaw([]byte("0123456789abcdef01234567"))
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"id":"e1","type":"push","timestamp":"2025-11-11T17:25:41.962Z","data":{ "a":1 }}`
	tests := []struct {
		name, id, body string
		late           time.Duration
		damage         func(http.Header)
		want           string // what is wrong
	}{
		{"good", "e1", body, 0, nil, ""},
		{"another payload", "e1", strings.Replace(body, "1 }", "2 }", 1), 0, nil, changed},
		{"compacted", "e1", strings.Replace(body, "{ ", "{", 1), 0, nil, changed},
		{"another type", "e1", strings.Replace(body, "push", "pull", 1), 0, nil, changed},
		{"another id within", "e1", strings.Replace(body, "e1", "e2", 1), 0, nil, changed},
		{"no timestamp within", "e1", strings.Replace(body, "timestamp", "time", 1), 0, nil, changed},
		{"no JSON", "e1", "{", 0, nil, changed},
		{"old", "e1", body, 6 * time.Minute, nil, badlySigned},
		{"from the future", "e1", body, -6 * time.Minute, nil, badlySigned},
		{"not signed", "e1", body, 0, func(h http.Header) { h.Del(standardwebhooks.HeaderWebhookSignature) }, badlySigned},
		{"another's id", "e1", body, 0, func(h http.Header) { h.Set(standardwebhooks.HeaderWebhookID, "e2") }, badlySigned},
		{"a dot in the id", "e1.2", strings.Replace(body, "e1", "e1.2", 1), 0, nil, badlySigned},
		{"another event", "e2", strings.Replace(body, "e1", "e2", 1), 0, nil, unknown},
	}
	for _, tt := range tests {
		l := newLedger(func(posting, arrival, string) {})
		l.answered(postOf("d1", "accepted", "e1"))
		at := time.Now().Add(-tt.late)
		signature, err := webhook.Sign(tt.id, at, []byte(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/webhook", strings.NewReader(tt.body))
		r.Header.Set(standardwebhooks.HeaderWebhookID, tt.id)
		r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
		r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
		if tt.damage != nil {
			tt.damage(r.Header)
		}
		w := httptest.NewRecorder()
		receive(webhook, l)(w, r)
		wantStatus := http.StatusNoContent
		if tt.want == badlySigned {
			wantStatus = http.StatusUnauthorized
		}
		if w.Code != wantStatus {
			t.Errorf("%s: status %d, want %d", tt.name, w.Code, wantStatus)
		}
		if got := l.tally(); got.count(tt.want) == 0 && tt.want != "" || tt.want == "" && got.err() != nil {
			t.Errorf("%s: %+v, want %q", tt.name, got, tt.want)
		}
	}
	if !json.Valid([]byte(body)) {
		t.Error("the body of this test is no JSON")
	}
}
