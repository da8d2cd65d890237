package main

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMoments(t *testing.T) {
	t.Parallel()
	now := cliNow()
	for text, want := range map[string][2]time.Time{
		"10m":                  {now.Add(-10 * time.Minute), now.Add(10 * time.Minute)},
		"30d":                  {now.AddDate(0, 0, -30), now.AddDate(0, 0, 30)},
		"0":                    {now, now},
		"2026-01-02T03:04:05Z": {time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		"2026-01-02":           {time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local), time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local)},
	} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); err != nil || !m.before(now).Equal(want[0]) || !m.after(now).Equal(want[1]) {
			t.Errorf("%s: %v, before %v, after %v, want %v", text, err, m.before(now), m.after(now), want)
		}
	}
	for _, text := range []string{"", "x", "-5m", "2026-13-01", "10"} {
		if err := new(moment).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	var none *moment
	if !none.before(now).IsZero() || !none.after(now).IsZero() {
		t.Error("no moment is a time")
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{
		0: "", 0.00012: "0.1ms", 0.0125: "12.5ms", 0.25: "250ms", 1.5: "1.5s", 5: "5s", 60: "1m", 90: "1m30s", 3600: "1h", 5400: "1h30m", 36000: "10h",
		86400: "24h", 3605: "1h0m5s", 0.99999: "1000ms",
	} {
		if got := duration(seconds); got != want {
			t.Errorf("%v is shown as %q, want %q", seconds, got, want)
		}
	}
	if localTime(time.Time{}) != "" {
		t.Error("no time is shown")
	}
}

// What is not UTF-8 is refused by its name, wherever it comes from, and nothing
// is asked for: else two different texts could become one.
func TestTextsMustBeUTF8(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, answerAll)
	file := fileOf(t, "\"caf\xe9\"")
	for want, args := range map[string][]string{
		"--dedup-id must be UTF-8; its byte 4 is not":                                                                      {"send", "a", "--dedup-id", "caf\xe9"},
		"--dedup-id must be UTF-8; its byte 1 is not":                                                                      {"send", "a", "--dedup-id=\xed\xa0\x80"},
		"argument 2 must be UTF-8; its byte 4 is not":                                                                      {"send", "caf\xe9"},
		"argument 4 must be UTF-8; its byte 2 is not":                                                                      {"send", "--json", "a", "\"\xe9\""},
		"argument 3 must be UTF-8; its byte 1 is not":                                                                      {"send", "--json", "\xe9"},
		"argument 1 must be UTF-8; its byte 3 is not":                                                                      {"--\xe9=1", "me"},
		"--metadata must be UTF-8; its byte 3 is not":                                                                      {"webhook", "set", "1", "--metadata", "a=\xe9"},
		"--header must be UTF-8; its byte 4 is not":                                                                        {"webhook", "create", "https://a.example", "--type", "a", "--header", "A: \xe9"},
		"--data-dir must be UTF-8; its byte 1 is not":                                                                      {"check", "--data-dir", "\xe9"},
		"the payload must be UTF-8; its byte 5 is not":                                                                     {"send", "a", "@" + file},
		"--content must be UTF-8; its byte 5 is not":                                                                       {"webhook", "set", "1", "--content", "@" + file},
		"the payload must be UTF-8; its byte 2 is not":                                                                     {"send", "a", "-"},
		"--schema must be UTF-8; its byte 2 is not":                                                                        {"type", "put", "a", "--schema", "-"},
		"--data must be UTF-8; its byte 2 is not":                                                                          {"webhook", "test", "1", "--data", "-"},
		"TRIGGERD_KEY must be UTF-8; its byte 4 is not":                                                                    {"me"},
		"TRIGGERD_KEY, or --key, must not contain control characters, for example a newline; its byte 5 is '\\n'":          {"me", "--key", "sk_1\n"},
		"ADMIN_TOKEN, or --admin-token, must not contain control characters, for example a newline; its byte 2 is '\\x1b'": {"org", "list", "--admin-token", "a\x1b"},
	} {
		env := map[string]string{"TRIGGERD_URL": api.URL, "TRIGGERD_KEY": "sk_test"}
		if strings.HasPrefix(want, "TRIGGERD_KEY must") {
			env["TRIGGERD_KEY"] = "sk_\xe9"
		}
		runCLI(t.Context(), env, strings.NewReader("[\xe9]"), args...).failsWith(t, want)
	}
	if got := api.requests(); got != nil {
		t.Errorf("it asked for %q", got)
	}
}

// A byte order mark at the beginning of a file or of standard input is not a
// part of the value.
func TestByteOrderMarks(t *testing.T) {
	t.Parallel()
	for _, argument := range []string{"-", "@" + fileOf(t, "\ufeff[\"\ufeff\"]")} {
		api := newFakeAPI(t, answerAll)
		got := api.run(t, "\ufeff[\"\ufeff\"]", "send", "a", argument)
		if want := `POST /v1/events {"type":"a","payload":["` + "\ufeff" + `"]}`; got.err != nil || api.requests()[0] != want {
			t.Errorf("%s: %v, sent %q", argument, got.err, api.requests())
		}
	}
	api := newFakeAPI(t, answerAll)
	api.run(t, "", "send", "a", "\ufeff1").failsWith(t, "the payload must be JSON")
}

// The answer of another server is no success, whatever the command is.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for _, command := range []string{
		"send a", "inbox consume --drain", "inbox claim", "webhook create https://a.example", "webhook list", "me", "event show a", "event delete a", "key create",
	} {
		api := newFakeAPI(t, always(200, `{"ok":true}`))
		got := api.run(t, "", strings.Fields(command)...)
		want := regexp.MustCompile("^" + api.URL + ": [A-Z]+ /v1/.*: not the answer of a triggerd: it has .*; is TRIGGERD_URL, or --url, right\\?$")
		if got.out != "" || got.errOut != "" || got.err == nil || !want.MatchString(got.err.Error()) {
			t.Errorf("%s: %+v", command, got)
		}
	}
}
