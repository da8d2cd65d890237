//go:build plants

package torture_test

import (
	"time"

	"triggerd/internal/torture"
)

// databasePlants are bugs of servers whose database breaks off, fails over, is
// moved away, or has a clock that steps back.
func databasePlants() []plant {
	return []plant{
		{
			name: "webhooks that cannot be read are taken for gone",
			edits: []edit{{"internal/deliver/claim.go", "	hooks, err := e.Store.WebhooksByID(ctx, ids)\n	if err != nil {\n", `
				hooks, err := e.Store.WebhooksByID(ctx, ids)
				if err != nil {
					gone := make(map[int64]int64)
					e.mu.Lock()
					for _, id := range ids {
						if w := e.receiver(id).webhook; w != nil {
							gone[id] = w.OrganizationID
						}
					}
					e.mu.Unlock()
					for id, orgID := range gone {
						e.endWebhook(id, ending{organizationID: orgID, state: trigger.Gone})
					}
			`}},
			config: torture.Config{Database: "postgres", Faults: []string{"db-read"}, For: 10 * time.Second},
			finds:  []string{"webhooks gone or paused without a request|deliveries of them that never came"},
		},
		{
			name:   "no barrier before answers that wrote nothing",
			edits:  []edit{{"internal/store/postgres.go", `	THEN pg_logical_emit_message(true, 'triggerd', '') END`, `	THEN '' END`}},
			config: torture.Config{Database: "standby", Faults: []string{"standby-cut"}, For: 25 * time.Second},
			finds:  []string{"acknowledged events that are not there|handed out after they were acknowledged|sent again too little, or too much"},
		},
		{
			name:   "an old primary is believed",
			edits:  []edit{{"internal/store/postgres_server.go", "	case id.timeline < seen.timeline:", "	case false:"}},
			config: torture.Config{Database: "standby", Nodes: 2, Faults: []string{"old-primary"}, For: 10 * time.Second},
			finds:  []string{"acknowledged events that are not there|dedup ids with two events"},
		},
		{
			name:   "commits into files that were moved away",
			edits:  []edit{{"internal/store/sqlite_files.go", "		lost = d.list[i].look()", "		_ = d.list[i].look()"}},
			config: torture.Config{Database: "sqlite", Faults: []string{"db-files"}, For: 8 * time.Second},
			finds:  []string{"acknowledged, or ready, without the database's files"},
		},
		{
			name:   "due times that stay ahead",
			edits:  []edit{{"internal/store/pullback.go", "		s.pullWebhooks, ", "		"}},
			config: torture.Config{Database: "postgres", Faults: []string{"db-clock"}, For: 25 * time.Second},
			finds:  []string{"deliveries of them that never came|events still pending, or in a wrong state"},
		},
	}
}

// receiverPlants are bugs that receivers bring out.
func receiverPlants() []plant {
	const outlived = "attempts that outlived their deadline, or were not recorded"
	return []plant{
		{
			name: "an answer of 101 is read to its end",
			edits: []edit{
				{"internal/deliver/send.go", " || resp.StatusCode < 200 {", " {"},
				{"internal/deliver/send.go", "	if conn != nil { // the deadline", "	if conn != nil && resp.StatusCode >= 200 { // the deadline"},
			},
			config: torture.Config{Database: "sqlite", Faults: []string{"hang-101"}, For: 10 * time.Second},
			finds:  []string{outlived},
		},
		{
			name:   "handshakes without a deadline",
			edits:  []edit{{"internal/deliver/transport.go", "secured.HandshakeContext(ctx)", "secured.HandshakeContext(context.WithoutCancel(ctx))"}},
			config: torture.Config{Database: "sqlite", Faults: []string{"hang-tls"}, For: 10 * time.Second},
			finds:  []string{outlived},
		},
		{
			name: "an answer of 500 opens the breaker",
			edits: []edit{{"internal/trigger/delivery.go", `	case a.Status != 0:
		return NoStrain`, `	case a.Status == 500:
		return Unreachable
	case a.Status != 0:
		return NoStrain`}},
			config: torture.Config{Database: "sqlite", Faults: []string{"poison"}, For: 8 * time.Second},
			finds:  []string{"good events delayed by ones that their receiver refuses"},
		},
	}
}
