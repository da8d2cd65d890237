package torture

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
)

// texts returns texts for payloads, with everything that encoders are known to
// change.
func texts() []string {
	return []string{
		`plain`, `žluťoučký kůň`, `🐎 \ud83d\udc0e`, `\u0000 \ud800 \/ \"`, `<script>&amp;</script>`, "\u2028\u2029", `日本語 عربى`,
	}
}

// numbers returns numbers for payloads, some beyond a float64.
func numbers(r *rand.Rand) []string {
	return []string{
		fmt.Sprint(uint64(1)<<53 + 1 + r.Uint64N(1<<62)), `-0.0`, `0.10`, `1e400`, `123456789012345678901234567890`, `1E-7`, `false`, `null`, `[]`,
	}
}

// types returns the events' types, and patterns the webhooks' filters. The last
// two patterns match none of the types; the very last matches operational
// events.
func types() []string {
	return []string{"user.created", "user.deleted", "order.a.paid", "order.a.b.paid", "invoice.created", "größe.geändert"}
}

func patterns() []string {
	return []string{"", "*", "user.*", "*.created", "user.created", "order.*.paid", "größe.*", "nothing.*", "webhook.*"}
}

// matches implements filters independently of the server.
func matches(pattern, eventType string) bool {
	if pattern == "" {
		return true
	}
	expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `(?s:.*)`) + "$"
	return regexp.MustCompile(expression).MatchString(eventType)
}

// sumMark precedes the checksum at the end of a payload.
const sumMark = `,"sum":"`

// newPayload returns the payload of the n-th event of a seed: JSON with white
// space, with numbers and texts that are easily changed, and at its end the
// SHA-256 of everything before it.
func newPayload(seed uint64, n, tenant int, refused bool) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	b := fmt.Appendf(nil, "{ \"n\":%d,\"tenant\": %d,\"refused\":%v", n, tenant, refused)
	for i, number := range numbers(r) {
		b = fmt.Appendf(b, ",\t\"number %d\" : %s", i, number)
	}
	all := texts()
	b = fmt.Appendf(b, `,"text":"%s","text":"%s"`, all[r.IntN(len(all))], all[r.IntN(len(all))])
	b = fmt.Appendf(b, `,"pad":%q`, strings.Repeat("x", r.IntN(1<<r.IntN(12))))
	sum := sha256.Sum256(b)
	return fmt.Appendf(b, `%s%x"}`, sumMark, sum)
}

// contents is the parsed payload.
type contents struct {
	N       int
	Tenant  int
	Refused bool
}

// readPayload parses a payload; ok is false if a byte of it was changed.
func readPayload(payload []byte) (c contents, ok bool) {
	at := bytes.LastIndex(payload, []byte(sumMark))
	if at < 0 {
		return c, false
	}
	sum := sha256.Sum256(payload[:at])
	want := sumMark + hex.EncodeToString(sum[:]) + `"}`
	if string(payload[at:]) != want {
		return c, false
	}
	return c, json.Unmarshal(payload, &c) == nil
}
