package trigger_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

// shown is a value in every form that ends up in a log, a message or an
// answer, by how it was made.
func shown(t *testing.T, value any) map[string]string {
	t.Helper()
	all := map[string]string{"error": fmt.Errorf("with %v", value).Error(), "Sprint": fmt.Sprint(value)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% X", "%30v"} {
		all[verb] = fmt.Sprintf(verb, value)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	all["JSON"] = string(encoded)
	var text, object strings.Builder
	for _, logger := range []*slog.Logger{slog.New(slog.NewTextHandler(&text, nil)), slog.New(slog.NewJSONHandler(&object, nil))} {
		logger.Info("m", "k", value)
		logger.With("k", value).WithGroup("g").Info(fmt.Sprint("m ", value), slog.Group("h", "k", value))
	}
	all["slog text"], all["slog JSON"] = text.String(), object.String()
	return all
}

// spellings are how the beginning of some bytes may be read from a text. A
// part of a secret is as bad as the whole.
func spellings(raw []byte) map[string]string {
	begin := raw[:min(6, len(raw))]
	return map[string]string{
		"base64":    encode(begin),
		"raw":       string(begin),
		"quoted":    strings.Trim(fmt.Sprintf("%q", begin), `"`),
		"hex":       fmt.Sprintf("%x", begin),
		"HEX":       fmt.Sprintf("% X", begin),
		"decimal":   strings.Trim(fmt.Sprint(begin), "[]"),
		"Go syntax": strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", begin), "[]byte"), "{}"),
	}
}

func wantRedacted(t *testing.T, what string, value any, mark string, secrets ...[]byte) {
	t.Helper()
	for how, got := range shown(t, value) {
		for _, raw := range secrets {
			for name, form := range spellings(raw) {
				if strings.Contains(got, form) {
					t.Errorf("%s in %s shows the secret as %s: %s", what, how, name, got)
				}
			}
		}
		if !strings.Contains(got, mark) && !strings.Contains(got, fmt.Sprintf("%x", mark)) && !strings.Contains(got, fmt.Sprintf("% X", mark)) {
			t.Errorf("%s in %s is %s, want %s there", what, how, got, mark)
		}
	}
}

type holder struct {
	Secret  trigger.Secret
	Pointer *trigger.Secret
}

func TestSecretIsRedacted(t *testing.T) {
	t.Parallel()
	for mark, shown := range map[string]string{"whsec_[redacted]": exampleSecret, "whsk_[redacted]": examplePrivate} {
		secret, raw := parseSecret(t, shown), rawKey(t, shown)
		issued := trigger.IssuedSecret{Secret: secret, Until: time.Unix(exampleTime, 0)}
		secrets := trigger.Secrets{issued, {Secret: secret}}
		webhook := trigger.Webhook{ID: 1, Secrets: secrets}
		for what, value := range map[string]any{
			"Secret":              secret,
			"*Secret":             &secret,
			"[]Secret":            []trigger.Secret{secret},
			"[1]Secret":           [1]trigger.Secret{secret},
			"map":                 map[string]trigger.Secret{"a": secret},
			"struct":              holder{Secret: secret, Pointer: &secret},
			"*struct":             &holder{Secret: secret},
			"any":                 []any{secret},
			"IssuedSecret":        issued,
			"*IssuedSecret":       &issued,
			"Secrets":             secrets,
			"Webhook":             webhook,
			"*Webhook":            &webhook,
			"Subscribers":         trigger.Subscribers{Webhooks: []trigger.Webhook{webhook}},
			"Secrets in a struct": struct{ S trigger.Secrets }{secrets},
		} {
			wantRedacted(t, what, value, mark, raw)
		}
	}
}

func TestAuthIsRedacted(t *testing.T) {
	t.Parallel()
	const token, user, password = "tok-5f3a9c0d", "maria-0815", "hunter-4711"
	for _, auth := range []trigger.Auth{{Bearer: token}, {User: user, Password: password}} {
		webhook := trigger.Webhook{Auth: auth}
		for what, value := range map[string]any{
			"Auth":     auth,
			"*Auth":    &auth,
			"[]Auth":   []trigger.Auth{auth},
			"struct":   struct{ A trigger.Auth }{auth},
			"Webhook":  webhook,
			"*Webhook": &webhook,
		} {
			wantRedacted(t, what, value, "[redacted]", []byte(token), []byte(user), []byte(password),
				[]byte(user+":"+password), []byte(password[3:]))
		}
	}
}
