package trigger_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// members is a map of n members, each with the value.
func members(n int, value string) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprintf("X-%d", i)] = value
	}
	return m
}

// check is a webhook with one thing chosen, and whether it may be.
type check struct {
	name    string
	webhook trigger.Webhook
	valid   bool
}

func wantChecked(t *testing.T, tests []check) {
	t.Helper()
	for _, tt := range tests {
		wantValid(t, tt.name, tt.webhook.Check(), tt.valid)
	}
}

func TestCheckPace(t *testing.T) {
	t.Parallel()
	var tests []check
	timeout := func(d time.Duration, valid bool) {
		tests = append(tests, check{"timeout " + d.String(), trigger.Webhook{Timeout: d}, valid})
	}
	timeout(0, true)
	timeout(time.Second, true)
	timeout(time.Second-1, false)
	timeout(1, false)
	timeout(30*time.Second, true)
	timeout(30*time.Second+1, false)
	timeout(-time.Second, false)
	timeout(math.MinInt64, false)
	timeout(math.MaxInt64, false)
	schedule := func(name string, s trigger.Schedule, valid bool) {
		tests = append(tests, check{"schedule " + name, trigger.Webhook{Schedule: s}, valid})
	}
	const week = 7 * 24 * time.Hour
	schedule("none", nil, true)
	schedule("empty", trigger.Schedule{}, true)
	schedule("0s", trigger.Schedule{0}, true)
	schedule("-1ns", trigger.Schedule{-1}, false)
	schedule("a week", trigger.Schedule{week}, true)
	schedule("over a week", trigger.Schedule{week + 1}, false)
	schedule("second", trigger.Schedule{0, week + 1}, false)
	schedule("last", append(make(trigger.Schedule, 49), -1), false)
	schedule("50 pauses", make(trigger.Schedule, 50), true)
	schedule("51 pauses", make(trigger.Schedule, 51), false)
	schedule("the default", trigger.DefaultSchedule(), true)
	rate := func(r float64, valid bool) {
		tests = append(tests, check{fmt.Sprintf("rate %v", r), trigger.Webhook{Rate: r}, valid})
	}
	rate(0, true)
	rate(math.Copysign(0, -1), true)
	rate(1.0/60, true)
	rate(math.Nextafter(1.0/60, 0), false)
	rate(math.SmallestNonzeroFloat64, false)
	rate(10_000, true)
	rate(math.Nextafter(10_000, math.Inf(1)), false)
	rate(math.MaxFloat64, false)
	rate(-1, false)
	rate(-1.0/60, false)
	rate(math.NaN(), false)
	rate(math.Inf(1), false)
	rate(math.Inf(-1), false)
	for n, valid := range map[int]bool{-1: false, math.MinInt: false, 0: true, 1: true, 64: true, 65: false, math.MaxInt: false} {
		tests = append(tests, check{fmt.Sprintf("concurrency %d", n), trigger.Webhook{Concurrency: n}, valid})
	}
	wantChecked(t, tests)
}

func TestCheckTexts(t *testing.T) {
	t.Parallel()
	var tests []check
	for _, tt := range []struct {
		name, text string
		limit      int // 0: the text is bad in itself
	}{
		{"empty", "", 1},
		{"lines, tabs and DEL", "a\n\tb\r\x7f\u0085", 10},
		{"other scripts", "組織 🙂", 20},
		{"1024 bytes", strings.Repeat("a", 1024), 1024},
		{"1025 bytes", strings.Repeat("a", 1025), 1025},
		{"1024 bytes in 512 characters", strings.Repeat("é", 512), 1024},
		{"1025 bytes in 513 characters", strings.Repeat("é", 512) + "a", 1025},
		{"4096 bytes", strings.Repeat("a", 4096), 4096},
		{"4097 bytes", strings.Repeat("a", 4097), 4097},
		{"NUL", "a\x00b", 0},
		{"NUL alone", "\x00", 0},
		{"lone byte", "a\xff", 0},
		{"cut character", "a\xc3", 0},
		{"surrogate", "\xed\xa0\x80", 0},
	} {
		good := tt.limit > 0
		tests = append(
			tests,
			check{"description: " + tt.name, trigger.Webhook{Description: tt.text}, good && tt.limit <= 1024},
			check{"metadata value: " + tt.name, trigger.Webhook{Metadata: map[string]string{"k": tt.text}}, good && tt.limit <= 4096},
		)
	}
	for _, tt := range texts {
		tests = append(tests, check{"metadata key: " + tt.name, trigger.Webhook{Metadata: map[string]string{"k": "v", tt.text: "v"}}, tt.valid})
	}
	for _, n := range []int{0, 1, 20, 21} {
		tests = append(tests, check{fmt.Sprintf("metadata of %d members", n), trigger.Webhook{Metadata: members(n, "v")}, n <= 20})
	}
	for format, valid := range formats() {
		tests = append(tests, check{"format " + format, trigger.Webhook{Format: trigger.Format(format)}, valid})
	}
	wantChecked(t, tests)
}

func formats() map[string]bool {
	return map[string]bool{
		"": true, "standard": true, "cloudevents": true, "payload": true,
		"Standard": false, "STANDARD": false, " standard": false, "payload ": false, "raw": false, "json": false, "\x00": false,
	}
}

func TestParseFormat(t *testing.T) {
	t.Parallel()
	for s, valid := range formats() {
		got, err := trigger.ParseFormat(s)
		wantValid(t, s, err, valid)
		want := trigger.Format(s)
		if s == "" {
			want = trigger.FormatStandard
		}
		if !valid {
			want = ""
		}
		if got != want {
			t.Errorf("ParseFormat(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n) }
	tests := []struct {
		name   string
		auth   trigger.Auth
		header string // "": refused, if it is not the first
	}{
		{"none", trigger.Auth{}, ""},
		{"bearer", trigger.Auth{Bearer: "abc.DEF-_~+/=="}, "Bearer abc.DEF-_~+/=="},
		{"bearer with a space", trigger.Auth{Bearer: "a b"}, "Bearer a b"},
		// RFC 7617, section 2
		{"basic", trigger.Auth{User: "Aladdin", Password: "open sesame"}, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
		{"user only", trigger.Auth{User: "a"}, "Basic YTo="},
		{"password only", trigger.Auth{Password: "a"}, "Basic OmE="},
		{"colons in a password", trigger.Auth{User: "a", Password: "b:c:"}, "Basic YTpiOmM6"},
		{"spaces about a password", trigger.Auth{User: " ", Password: " "}, "Basic IDog"},
		{"bearer of 4096", trigger.Auth{Bearer: long(4096)}, "Bearer " + long(4096)},
		{"user and password of 4096", trigger.Auth{User: long(4096), Password: long(4096)}, "Basic " + encode([]byte(long(4096)+":"+long(4096)))},
		{"bearer of 4097", trigger.Auth{Bearer: long(4097)}, ""},
		{"user of 4097", trigger.Auth{User: long(4097)}, ""},
		{"password of 4097", trigger.Auth{Password: long(4097)}, ""},
		{"colon in a user", trigger.Auth{User: "a:b", Password: "c"}, ""},
		{"colon alone", trigger.Auth{User: ":"}, ""},
		{"both", trigger.Auth{Bearer: "a", User: "b", Password: "c"}, ""},
		{"bearer and user", trigger.Auth{Bearer: "a", User: "b"}, ""},
		{"bearer and password", trigger.Auth{Bearer: "a", Password: "c"}, ""},
		{"space before a bearer", trigger.Auth{Bearer: " a"}, ""},
		{"space after a bearer", trigger.Auth{Bearer: "a "}, ""},
		{"bearer of a space", trigger.Auth{Bearer: " "}, ""},
	}
	for _, tt := range tests {
		webhook := trigger.Webhook{Auth: tt.auth}
		valid := tt.header != "" || tt.auth == trigger.Auth{}
		err := webhook.Check()
		wantValid(t, tt.name, err, valid)
		if got := tt.auth.Header(); valid && got != tt.header {
			t.Errorf("%s: Header() = %q, want %q", tt.name, got, tt.header)
		}
		for _, secret := range []string{tt.auth.Bearer, tt.auth.User, tt.auth.Password} {
			if err != nil && len(secret) > 3 && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error %q shows what was given", tt.name, err)
			}
		}
	}
}

// Settings do not excuse each other: with one bad thing among good ones the
// webhook is refused.
func TestCheckJudgesAll(t *testing.T) {
	t.Parallel()
	spoil := []func(w *trigger.Webhook){
		func(w *trigger.Webhook) { w.Timeout = 1 },
		func(w *trigger.Webhook) { w.Schedule = append(w.Schedule, -1) },
		func(w *trigger.Webhook) { w.Rate = math.NaN() },
		func(w *trigger.Webhook) { w.Concurrency = -1 },
		func(w *trigger.Webhook) { w.Description += "\x00" },
		func(w *trigger.Webhook) { w.Format = "raw" },
		func(w *trigger.Webhook) { w.Metadata[""] = "" },
		func(w *trigger.Webhook) { w.Auth.Bearer = "\n" },
		func(w *trigger.Webhook) { w.Headers["Host"] = "a" },
	}
	rapid.Check(t, func(t *rapid.T) {
		webhook := trigger.Webhook{
			Timeout:     time.Duration(rapid.Int64Range(int64(trigger.MinTimeout), int64(trigger.MaxTimeout)).Draw(t, "timeout")),
			Schedule:    drawSchedule(t, 0),
			Rate:        rapid.Float64Range(trigger.MinRate, trigger.MaxRate).Draw(t, "rate"),
			Concurrency: rapid.IntRange(0, trigger.MaxConcurrency).Draw(t, "concurrency"),
			Description: rapid.StringMatching(`[^\x00]{0,100}`).Draw(t, "description"),
			Format:      rapid.SampledFrom([]trigger.Format{"", "standard", "cloudevents", "payload"}).Draw(t, "format"),
			Metadata:    members(rapid.IntRange(0, 19).Draw(t, "metadata"), "v"),
			Headers:     members(rapid.IntRange(0, 19).Draw(t, "headers"), "v"),
			Auth:        rapid.SampledFrom([]trigger.Auth{{}, {Bearer: "a"}}).Draw(t, "auth"),
		}
		webhook.Schedule = webhook.Schedule[:min(len(webhook.Schedule), 49)]
		if err := webhook.Check(); err != nil {
			t.Fatal(err)
		}
		bad := rapid.IntRange(0, len(spoil)-1).Draw(t, "spoiled")
		spoil[bad](&webhook)
		if err := webhook.Check(); trigger.KindOf(err) != trigger.Invalid {
			t.Fatalf("%v, want Invalid", err)
		}
	})
	wantValid(t, "nothing chosen", (&trigger.Webhook{}).Check(), true)
}
