package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// verifyFolder is where the libraries of npm are, and what asks them.
const verifyFolder = "../../integrations/verify"

// alteration is a delivery as somebody on its way could have changed it.
type alteration struct {
	name   string
	header map[string]string // in place of what came; "": none
	body   []byte
	want   error // of the library; nil: it verifies
}

func alterations(got received) []alteration {
	id, body := got.header.Get("Webhook-Id"), got.body
	at, _ := strconv.ParseInt(got.header.Get("Webhook-Timestamp"), 10, 64)
	moved := func(by int64) map[string]string {
		return map[string]string{"Webhook-Timestamp": strconv.FormatInt(at+by, 10)}
	}
	flipped := bytes.Clone(body)
	flipped[len(body)/2] ^= 1
	return []alteration{
		{"as it came", nil, body, nil},
		{"a body longer by a space", nil, append(bytes.Clone(body), ' '), standardwebhooks.ErrNoMatchingSignature},
		{"a body shorter by a byte", nil, body[:len(body)-1], standardwebhooks.ErrNoMatchingSignature},
		{"a body with another byte", nil, flipped, standardwebhooks.ErrNoMatchingSignature},
		{"another id", map[string]string{"Webhook-Id": id + "0"}, body, standardwebhooks.ErrNoMatchingSignature},
		{"a second later", moved(1), body, standardwebhooks.ErrNoMatchingSignature},
		{"a second earlier", moved(-1), body, standardwebhooks.ErrNoMatchingSignature},
		{"ten minutes later", moved(600), body, standardwebhooks.ErrMessageTooNew},
		{"ten minutes earlier", moved(-600), body, standardwebhooks.ErrMessageTooOld},
		{"no signature", map[string]string{"Webhook-Signature": ""}, body, standardwebhooks.ErrRequiredHeaders},
		{"no id", map[string]string{"Webhook-Id": ""}, body, standardwebhooks.ErrRequiredHeaders},
		{"no timestamp", map[string]string{"Webhook-Timestamp": ""}, body, standardwebhooks.ErrRequiredHeaders},
	}
}

// checkByGo verifies with each of the secrets by itself. The library passes
// over v1a; crypto/ed25519 stands in for it, which knows of no reasons.
func checkByGo(t *testing.T, sub *subscriber, got received) {
	t.Helper()
	for i, shown := range sub.signing {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sub.public[i], "whpk_"))
		if err != nil {
			t.Fatal(err)
		}
		library, err := standardwebhooks.NewWebhookRaw(key)
		if sub.public[i] == "" {
			library, err = standardwebhooks.NewWebhook(shown)
		} else if err := library.Verify(got.body, got.header); !errors.Is(err, standardwebhooks.ErrNoMatchingSignature) {
			t.Errorf("%s: the library, which knows no v1a, says %v", got.path, err)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range alterations(got) {
			header := got.header.Clone()
			for name, value := range a.header {
				header.Set(name, value)
			}
			if sub.public[i] != "" {
				if ok := verifyAsymmetric(key, header, a.body); ok != (a.want == nil) {
					t.Errorf("%s, event %s: %s: verified %v", got.path, got.header.Get("Webhook-Id"), a.name, ok)
				}
			} else if err := library.Verify(a.body, header); !errors.Is(err, a.want) {
				t.Errorf("%s, event %s: %s: %v, want %v", got.path, got.header.Get("Webhook-Id"), a.name, err, a.want)
			}
		}
	}
}

// verifyAsymmetric is for a receiver that has the public key alone.
func verifyAsymmetric(public ed25519.PublicKey, h http.Header, body []byte) bool {
	return slices.ContainsFunc(strings.Split(h.Get("Webhook-Signature"), " "), func(s string) bool {
		encoded, ok := strings.CutPrefix(s, "v1a,")
		sig, err := base64.StdEncoding.DecodeString(encoded)
		return ok && err == nil && ed25519.Verify(public, signed(h, body), sig)
	})
}

// capture is what verify.mjs reads, with one of a webhook's secrets.
type capture struct {
	Webhook   string            `json:"webhook"`
	Secret    string            `json:"secret,omitempty"`
	PublicKey string            `json:"publicKey,omitempty"`
	Headers   map[string]string `json:"headers"`
	Body      []byte            `json:"body"`
}

func captures(sub *subscriber, got received) (all []capture) {
	headers := make(map[string]string, len(got.header))
	for name, values := range got.header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	for i, shown := range sub.signing {
		c := capture{Webhook: got.path, PublicKey: sub.public[i], Headers: headers, Body: got.body}
		if c.PublicKey == "" {
			c.Secret = shown
		}
		all = append(all, c)
	}
	return all
}

// needNode fails the test where it cannot judge.
func needNode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("Node.js is missing: install version 18 or newer and npm (Debian: apt-get install nodejs npm), then run make test")
	}
	if _, err := os.Stat(filepath.Join(verifyFolder, "node_modules", ".package-lock.json")); err != nil {
		t.Fatalf("the libraries of npm are missing: run make test, or npm ci --prefix integrations/verify (%v)", err)
	}
}

// checkByNode has verify.mjs judge, and sees it refuse what is badly signed.
func checkByNode(t *testing.T, captured []capture) {
	t.Helper()
	said, err := verifyByNode(t, captured)
	want := fmt.Sprintf("%d deliveries, ", len(captured))
	if last := said[strings.LastIndexByte(strings.TrimSpace(said), '\n')+1:]; err != nil || !strings.HasPrefix(last, want) {
		t.Errorf("verify.mjs: %v, want %s…\n%s", err, want, said[max(0, len(said)-2000):])
	} else {
		t.Log(strings.TrimSpace(last))
	}
	for _, asymmetric := range []bool{false, true} {
		i := slices.IndexFunc(captured, func(c capture) bool { return (c.PublicKey != "") == asymmetric })
		bad := captured[i]
		bad.Body = append(bytes.Clone(bad.Body), '\n')
		said, err := verifyByNode(t, []capture{bad})
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasPrefix(said, "WRONG ") {
			t.Errorf("verify.mjs on a badly signed delivery: %v\n%s", err, said)
		}
	}
}

func verifyByNode(t *testing.T, captured []capture) (said string, err error) {
	t.Helper()
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for _, c := range captured {
		if err := encoder.Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	node := exec.CommandContext(t.Context(), "node", filepath.Join(verifyFolder, "verify.mjs"))
	node.Stdin = &lines
	output, err := node.CombinedOutput()
	return string(output), err
}
