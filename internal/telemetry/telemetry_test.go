package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"triggerd/internal/telemetry"
)

// Each counter is there at its start, with each value that its label can have:
// otherwise the first failure would show no increase.
func TestCountersBeginAtZero(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	telemetry.New().Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	said := answer.Body.String()
	for counter, values := range map[string][]string{
		"events_accepted_total":       {""},
		"events_duplicate_total":      {`found="cache"`, `found="store"`},
		"events_rejected_total":       {`reason="bad request"`, `reason="service unavailable"`, `reason="too many requests"`},
		"delivery_attempts_total":     {`outcome="success"`, `outcome="transient"`, `outcome="permanent"`, `outcome="gone"`},
		"deliveries_total":            {`outcome="delivered"`, `outcome="failed"`, `outcome="expired"`},
		"deliveries_dropped_total":    {""},
		"breaker_trips_total":         {""},
		"due_times_pulled_back_total": {""},
		"http_unavailable_total":      {""},
	} {
		for _, value := range values {
			want := "\ntriggerd_" + counter + " 0\n"
			if value != "" {
				want = "\ntriggerd_" + counter + "{" + value + "} 0\n"
			}
			if !strings.Contains(said, want) {
				t.Errorf("no line %q", strings.TrimSpace(want))
			}
		}
	}
}
