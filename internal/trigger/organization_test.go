package trigger_test

import (
	"crypto/sha256"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

const keyForm = `^sk_[0-9A-Za-z]{49}$`

func TestAPIKeyForm(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(keyForm)
	seen := map[string][32]byte{}
	rapid.Check(t, func(t *rapid.T) {
		random := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random"))
		key := trigger.NewAPIKey(random)
		if !form.MatchString(key) {
			t.Fatalf("%q is not of the form %s", key, keyForm)
		}
		if other, ok := seen[key]; ok && other != random {
			t.Fatalf("%x and %x give the same key", other, random)
		}
		seen[key] = random
		hash, ok := trigger.HashAPIKey(key)
		if !ok || hash != sha256.Sum256([]byte(key)) {
			t.Fatalf("HashAPIKey(%q) = %x, %v", key, hash, ok)
		}
		if got := trigger.KeyPrefix(key); got != key[:9] {
			t.Fatalf("KeyPrefix(%q) = %q", key, got)
		}
	})
}

// Keys are in the hands of clients: their form must never change.
func TestAPIKeyIsPinned(t *testing.T) {
	t.Parallel()
	ones := [32]byte([]byte(strings.Repeat("\xff", 32)))
	tests := []struct {
		random [32]byte
		want   string
	}{
		{[32]byte{}, "sk_00000000000000000000000000000000000000000002czCLJ"},
		{[32]byte{31: 1}, "sk_00000000000000000000000000000000000000000010hnupX"},
		{ones, "sk_YHJSKWDa6oz1al1yMhwzwM8llg7hJNUca2J5RoW8xP13Ivj5c"},
	}
	for _, tt := range tests {
		if got := trigger.NewAPIKey(tt.random); got != tt.want {
			t.Errorf("NewAPIKey(%x) = %s, want %s", tt.random, got, tt.want)
		}
	}
}

func TestEveryOneCharacterChangeOfAKeyIsMalformed(t *testing.T) {
	t.Parallel()
	key := trigger.NewAPIKey(sha256.Sum256([]byte("any")))
	for at := range len(key) {
		for c := range 256 {
			changed := []byte(key)
			changed[at] = byte(c)
			if string(changed) == key {
				continue
			}
			if _, ok := trigger.HashAPIKey(string(changed)); ok {
				t.Errorf("%q passes for a key, with character %d changed", changed, at)
			}
		}
	}
}

func TestHashAPIKeyRefuses(t *testing.T) {
	t.Parallel()
	key := trigger.NewAPIKey(sha256.Sum256([]byte("any")))
	refused := []string{
		"", "sk_", key[:51], key[1:], key + "0", " " + key, key + " ", key + "\n",
		strings.ToLower(key), strings.ToUpper(key), "pk_" + key[3:], "sk_" + key, strings.Repeat("0", 52),
	}
	for _, s := range refused {
		if hash, ok := trigger.HashAPIKey(s); ok || hash != [32]byte{} {
			t.Errorf("HashAPIKey(%q) = %x, %v; want it refused", s, hash, ok)
		}
	}
}

func TestKeyPrefixOfShortTexts(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "sk_", "sk_123456"} {
		if got := trigger.KeyPrefix(s); got != s {
			t.Errorf("KeyPrefix(%q) = %q, want all of it", s, got)
		}
	}
}

func FuzzHashAPIKey(f *testing.F) {
	f.Add(trigger.NewAPIKey([32]byte{}))
	f.Add("sk_")
	f.Fuzz(func(t *testing.T, s string) {
		hash, ok := trigger.HashAPIKey(s)
		if ok && (len(s) != 52 || s[:3] != "sk_" || hash != sha256.Sum256([]byte(s))) {
			t.Errorf("HashAPIKey(%q) = %x", s, hash)
		}
		if !ok && hash != [32]byte{} {
			t.Errorf("HashAPIKey(%q) = %x without ok", s, hash)
		}
	})
}

// texts are judged alike as organization names, event types and filters.
var texts = []struct {
	name  string
	text  string
	valid bool
}{
	{"empty", "", false},
	{"one byte", "a", true},
	{"255 bytes", strings.Repeat("a", 255), true},
	{"256 bytes", strings.Repeat("a", 256), false},
	{"255 bytes of two each, and one", strings.Repeat("é", 127) + "a", true},
	{"256 bytes in 128 characters", strings.Repeat("é", 128), false},
	{"spaces and quotes", ` a "b" \ `, true},
	{"other scripts", "組織 организация 🙂", true},
	{"NUL", "a\x00b", false},
	{"line feed", "a\n", false},
	{"tab", "\ta", false},
	{"unit separator", "a\x1f", false},
	{"DEL", "a\x7f", false},
	{"C1 control", "a\u0080", false},
	{"last C1 control", "a\u009f", false},
	{"no-break space", "a\u00a0", true},
	{"lone byte", "a\xff", false},
	{"cut character", "a\xc3", false},
	{"surrogate", "a\xed\xa0\x80", false},
	{"overlong", "a\xc0\x80", false},
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, tt := range texts {
		wantValid(t, tt.name, trigger.CheckName(tt.text), tt.valid)
	}
}

func TestParseTier(t *testing.T) {
	t.Parallel()
	for _, tier := range []trigger.Tier{trigger.Free, trigger.Professional, trigger.Enterprise} {
		if got, err := trigger.ParseTier(string(tier)); got != tier || err != nil {
			t.Errorf("ParseTier(%q) = %q, %v", tier, got, err)
		}
	}
	for _, s := range []string{"", "Free", "free ", "gold", "free\x00"} {
		got, err := trigger.ParseTier(s)
		wantValid(t, s, err, false)
		if got != "" {
			t.Errorf("ParseTier(%q) = %q", s, got)
		}
	}
}
