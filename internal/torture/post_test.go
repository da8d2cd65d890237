package torture

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
)

// poster is a client whose book is empty.
func poster() *client { return &client{run: newRun("kill")} }

// The verdicts of a batch are taken for what they say, one for each event.
func TestReadBatch(t *testing.T) {
	t.Parallel()
	const (
		accepted    = `{"index":0,"status":"accepted","id":"x"}`
		rejected    = `{"index":1,"status":"rejected","problem":{"status":422,"code":"validation_failed"}}`
		unavailable = `{"index":1,"status":"unavailable","problem":{"status":503,"code":"unavailable"}}`
	)
	tests := []struct {
		name   string
		refuse bool // the second event is bad
		lines  bool
		status int
		body   string
		kinds  []kind
		wrong  bool
	}{
		{"good and bad", true, true, 200, accepted + "\n" + rejected + "\n", []kind{acknowledgment, refusal}, false},
		{"good and unavailable", false, true, 200, accepted + "\n" + unavailable + "\n", []kind{acknowledgment, unanswered}, false},
		{"a bad one accepted", true, true, 200, accepted + "\n" + strings.Replace(accepted, "0", "1", 1) + "\n", []kind{acknowledgment, unanswered}, true},
		{"a good one rejected", false, true, 200, accepted + "\n" + rejected + "\n", []kind{acknowledgment, unanswered}, true},
		{"one is missing", false, true, 200, accepted + "\n", []kind{unanswered, unanswered}, true},
		{"in disorder", true, true, 200, rejected + "\n" + accepted + "\n", []kind{unanswered, unanswered}, true},
		{"an array", true, false, 207, `{"data":[` + accepted + `,` + rejected + `]}`, []kind{acknowledgment, refusal}, false},
		{"an array with the wrong status", true, false, 200, `{"data":[` + accepted + `,` + rejected + `]}`, []kind{acknowledgment, refusal}, true},
		{"too slow", false, true, 408, ``, []kind{unanswered, unanswered}, false},
		{"nothing", false, true, 503, ``, []kind{unanswered, unanswered}, false},
	}
	for _, tt := range tests {
		c := poster()
		b := &batch{events: []*event{{tenant: &tenant{}}, {tenant: &tenant{}, refused: tt.refuse}}}
		if tt.lines {
			b.form = lines
		}
		var kinds []kind
		for _, a := range c.readBatch(b, &reply{status: tt.status, body: []byte(tt.body)}, nil) {
			kinds = append(kinds, a.kind)
		}
		if !slices.Equal(kinds, tt.kinds) || slices.Contains(c.report.broken(), wrongAnswer) != tt.wrong {
			t.Errorf("%s: %v, %v", tt.name, kinds, c.report.Breaches)
		}
	}
	b := &batch{events: []*event{{tenant: &tenant{}}}}
	if got := poster().readBatch(b, &reply{}, io.ErrUnexpectedEOF)[0].kind; got != unanswered {
		t.Errorf("no answer is %v", got)
	}
	c := poster()
	if a := c.readOne(b.events[0], original, &reply{status: 408}, nil); a.kind != unanswered || c.report.broken() != nil {
		t.Errorf("408 is %v, %v", a.kind, c.report.Breaches)
	}
}

// A batch is the same bytes each time, its elements are JSON but for those that
// are to be refused, and say their dedup ids unless the Idempotency-Key does.
func TestBatchRequest(t *testing.T) {
	t.Parallel()
	who := &tenant{n: 1}
	first := &event{n: 0, tenant: who, eventType: "a.b", dedupID: "key#0"}
	bad := &event{n: 1, tenant: who, eventType: "a.b", refused: true}
	b := &batch{form: lines, key: "key", events: []*event{first, bad, first}}
	q := b.request(7)
	if again := b.request(7); string(again.body) != string(q.body) {
		t.Error("the second time it is another batch")
	}
	parts := strings.FieldsFunc(string(q.body), func(c rune) bool { return c == '\n' || c == '\r' })
	if len(parts) != 3 || !json.Valid([]byte(parts[0])) || json.Valid([]byte(parts[1])) || !json.Valid([]byte(parts[2])) {
		t.Errorf("lines: %q", parts)
	}
	if strings.Contains(parts[0], "dedup_id") || !strings.Contains(parts[2], `"dedup_id":"key#0"`) || q.header["Idempotency-Key"] != "key" {
		t.Errorf("dedup ids: %q, %q", parts, q.header)
	}
	b.form, b.key = array, ""
	if q := b.request(7); !json.Valid(q.body) {
		t.Errorf("no array: %s", q.body)
	}
	b.form, first.dedupID = cloudBatch, cloudSource+" 0"
	if q := b.request(7); !json.Valid(q.body) || !strings.Contains(string(q.body), `"id":"0","source":"/torture"`) {
		t.Errorf("no batch of CloudEvents: %s", q.body)
	}
}
