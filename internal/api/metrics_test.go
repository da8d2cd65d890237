package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// metricsOf returns metrics as Prometheus reads them.
func metricsOf(m *telemetry.Metrics) string {
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}

// Each reason for which an event can be refused is counted from 0.
func TestReasonsBeginAtZero(t *testing.T) {
	t.Parallel()
	said := metricsOf(telemetry.New())
	for _, kind := range []trigger.Kind{
		trigger.Internal, trigger.Malformed, trigger.Invalid, trigger.Forbidden, trigger.Conflict, trigger.TimedOut,
		trigger.TooLarge, trigger.UnsupportedMedia, trigger.RateLimited, trigger.Unavailable,
	} {
		line := "\ntriggerd_events_rejected_total{reason=" + strconv.Quote(reasonOf(&trigger.Error{Kind: kind})) + "} 0\n"
		if !strings.Contains(said, line) {
			t.Errorf("no line %q", strings.TrimSpace(line))
		}
	}
}

func TestUnavailableIsCounted(t *testing.T) {
	t.Parallel()
	a := &API{Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler)}
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable, http.StatusInternalServerError} {
		r := &request{Request: httptest.NewRequest(http.MethodGet, "/v1/events", nil)}
		a.note(route{path: "/v1/events"}, r, &recorder{status: status}, nil, 0)
	}
	if said := metricsOf(a.Metrics); !strings.Contains(said, "\ntriggerd_http_unavailable_total 1\n") {
		t.Error("one 503 is not counted as one")
	}
}
