package api

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		seen := map[string]bool{}
		for _, tt := range []struct{ body, name, tier string }{
			{`{"organization_name":"My Organization","tier":"free"}`, `My Organization`, "free"},
			{`{"organization_name":"My Organization","tier":"professional"}`, `My Organization`, "professional"},
			{`{"tier":"enterprise","organization_name":"My Organization"}`, `My Organization`, "enterprise"},
			{`{"organization_name":"My Organization"}`, `My Organization`, "free"},
			{`{"organization_name":"O","tier":null}`, `O`, "free"},
			{`{"organization_name":" é\ud83d\ude00 ","Tier":"gold","id":7,"is_admin":true,"api_key":"sk_mine"}`, ` é😀 `, "free"},
			{`{"organization_name":"` + strings.Repeat("n", 255) + `"}`, strings.Repeat("n", 255), "free"},
			{`{"organization_name":"'; DROP TABLE organizations; --"}`, `'; DROP TABLE organizations; --`, "free"},
		} {
			r := s.do(t, "POST", "/api/keys/generate", "", tt.body)
			shape := regexp.MustCompile(`^\{"api-key":"sk_[0-9A-Za-z]{49}","organization-name":"` + regexp.QuoteMeta(tt.name) +
				`","tier":"` + tt.tier + `"\}$`)
			if r.status != 200 || !shape.MatchString(r.body) {
				t.Errorf("%s: %d %s", tt.body, r.status, r.body)
				continue
			}
			key := r.member(t, "api-key")
			if seen[key] {
				t.Errorf("the key %s was made twice", key)
			}
			seen[key] = true
			if org := s.keyOf(t, key).Organization; org.Name != tt.name || string(org.Tier) != tt.tier {
				t.Errorf("%s: stored as %+v", tt.body, org)
			}
			s.accept(t, key, `{"type":"t","payload":1}`)
		}
	})
}

func TestGenerateKeyRefuses(t *testing.T) {
	t.Parallel()
	name, tier := "organization_name", "tier must be free, professional or enterprise"
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		for body, message := range map[string]string{
			``: "JSON", `{`: "JSON", `null`: "object", `[]`: "object", `"O"`: "object", `{}`: name, `{"tier":"free"}`: name,
			`{"organization_name":null}`: name, `{"organization_name":""}`: name, `{"organization_name":7}`: name,
			`{"organization_name":["O"]}`: name, `{"Organization_Name":"O"}`: name, `{"organization-name":"O"}`: name,
			`{"organization_name":"a\u0000"}`: name, `{"organization_name":"a\r\nb"}`: name, `{"organization_name":"\ud800"}`: name,
			`{"organization_name":"` + strings.Repeat("n", 256) + `"}`:    name,
			`{"organization_name":"` + strings.Repeat("é", 128) + `"}`:    name,
			`{"organization_name":"O","organization_name":"O"}`:           name,
			`{"organization_name":"O","tier":"gold"}`:                     tier,
			`{"organization_name":"O","tier":"Free"}`:                     tier,
			`{"organization_name":"O","tier":" free"}`:                    tier,
			`{"organization_name":"O","tier":""}`:                         tier,
			`{"organization_name":"O","tier":1}`:                          "tier",
			`{"organization_name":"O","tier":false}`:                      "tier",
			`{"organization_name":"O","tier":["free"]}`:                   "tier",
			`{"organization_name":"O","tier":"free","tier":"enterprise"}`: "tier",
			`{"organization_name":"O","x":` + nested(64, "[", "]") + `}`:  "nested",
			"{\"organization_name\":\"\xff\"}":                            "UTF-8",
			`{"organization_name":"O","tier":"free' OR 1=1; --"}`:         tier,
			`{"organization_name":"O"} {"organization_name":"O"}`:         "JSON",
		} {
			s.do(t, "POST", "/api/keys/generate", "", body).wants(t, body, 400, message)
		}
	})
}

func TestWhoMayGenerateKeys(t *testing.T) {
	t.Parallel()
	const body = `{"organization_name":"O"}`
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.AdminToken = "to ken" })
		key := s.do(t, "POST", "/api/keys/generate", "", body, "Authorization: Bearer to ken").member(t, "api-key")
		for _, path := range []string{"/api/keys/generate", "/metrics"} {
			method := map[bool]string{true: "POST", false: "GET"}[path != "/metrics"]
			s.do(t, method, path, "", body, "Authorization: Bearer to ken").wants(t, path, 200, "")
			for _, header := range []string{
				"X-Other: none", "Authorization: ", "Authorization: Bearer", "Authorization: Bearer ", "Authorization: Bearer wrong",
				"Authorization: Bearer to kem", "Authorization: Bearer to ken2", "Authorization: Bearer To ken", "Authorization: to ken",
				"Authorization: Basic to ken", "Authorization: Bearer to", "Authorization: Bearer " + key, "X-Api-Key: to ken",
				"X-Admin-Token: to ken",
			} {
				s.do(t, method, path, key, body, header).wants(t, path+" "+header, 401, `{"error":"`)
			}
		}
	})
}

// A key is shown once and stored only as a hash. SQLite's files are read as
// they lie there; what PostgreSQL holds is the same rows.
func TestKeyIsNotStored(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key := s.newKey(t, "free")
	hash := s.keyOf(t, key).Hash
	stored := false
	err := filepath.WalkDir(s.db.Options.DataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		stored = stored || strings.Contains(string(text), string(hash[:]))
		if strings.Contains(string(text), key) || strings.Contains(string(text), key[9:]) {
			t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil || !stored {
		t.Errorf("the hash was found: %v; %v", stored, err)
	}
	if strings.Contains(s.log.String(), key) {
		t.Error("the log holds the key")
	}
}
