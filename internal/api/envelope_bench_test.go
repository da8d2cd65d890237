package api

import (
	"encoding/json"
	"strings"
	"testing"
)

// benchmarkBody is of 459 bytes.
func benchmarkBody() []byte {
	payload := `{"user":{"id":9007199254740993,"name":"Zoë","tags":["a","b"]},"text":"` + strings.Repeat("x", 320) + `"}`
	return []byte(`{"type":"user.created","payload":` + payload + `,"dedup_id":"order-4711-created"}`)
}

func BenchmarkParseEnvelope(b *testing.B) {
	body := benchmarkBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseEnvelope(1, body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnmarshal is what encoding/json takes for less.
func BenchmarkUnmarshal(b *testing.B) {
	body := benchmarkBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var envelope struct {
			Type    string          `json:"type"`
			Payload json.RawMessage `json:"payload"`
			DedupID *string         `json:"dedup_id"`
		}
		if err := json.Unmarshal(body, &envelope); err != nil {
			b.Fatal(err)
		}
	}
}
