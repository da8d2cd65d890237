// Package telemetry defines the server's metrics for Prometheus. Names begin
// with triggerd_, units are seconds and bytes, and labels never name an
// organization, a webhook, a URL or an event type.
package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the metrics of the server. Use [New] to create them.
type Metrics struct {
	Accepted   prometheus.Counter     // events committed
	Duplicates *prometheus.CounterVec // by where the first was found: cache or store
	Rejected   *prometheus.CounterVec // posted events that were refused, by reason

	BatchEvents   prometheus.Histogram // events in one commit
	CommitSeconds prometheus.Histogram // of one commit of events

	Attempts       *prometheus.CounterVec // by outcome
	AttemptSeconds prometheus.Histogram
	Ended          *prometheus.CounterVec // deliveries: delivered, failed, expired
	Dropped        prometheus.Counter     // claimed but not sent, because the lease ran short
	Trips          prometheus.Counter     // breakers that have opened
	PulledBack     prometheus.Counter     // due times, after the database's clock went back
	Requests       *prometheus.HistogramVec
	Unavailable    prometheus.Counter // requests answered 503

	registry *prometheus.Registry
}

// New returns metrics in a registry of their own.
func New() *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "triggerd_" + name, Help: help})
	}
	counters := func(name, help, label string, values ...string) *prometheus.CounterVec {
		vec := f.NewCounterVec(prometheus.CounterOpts{Name: "triggerd_" + name, Help: help}, []string{label})
		for _, value := range values { // else the first increase is not seen, because the counter is new
			vec.WithLabelValues(value)
		}
		return vec
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: "triggerd_" + name, Help: help, Buckets: buckets})
	}
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 16)
	return &Metrics{
		Accepted:   counter("events_accepted_total", "Events committed and answered as accepted."),
		Duplicates: counters("events_duplicate_total", "Events answered as duplicates, by where the first one was found.", "found", "cache", "store"),
		Rejected: counters("events_rejected_total", "Posted events that were refused, by reason.", "reason",
			"bad request", "conflict", "forbidden", "internal server error", "request entity too large", "request timeout",
			"service unavailable", "too many requests", "unsupported media type"),
		BatchEvents:    histogram("ingest_batch_events", "Events in one commit.", prometheus.ExponentialBuckets(1, 2, 11)),
		CommitSeconds:  histogram("ingest_commit_seconds", "Time of one commit of events.", seconds),
		Attempts:       counters("delivery_attempts_total", "Attempts to deliver, by outcome.", "outcome", "success", "transient", "permanent", "gone"),
		AttemptSeconds: histogram("delivery_attempt_seconds", "Time of one attempt to deliver.", seconds),
		Ended:          counters("deliveries_total", "Deliveries that ended, by how: delivered, failed or expired.", "outcome", "delivered", "failed", "expired"),
		Dropped:        counter("deliveries_dropped_total", "Claimed deliveries that were not sent because their lease ran short; they are claimed again."),
		Trips:          counter("breaker_trips_total", "Breakers that opened because a receiver could not be reached, each time."),
		PulledBack:     counter("due_times_pulled_back_total", "Due times and other times that were pulled back because the database's clock went back."),
		Unavailable:    counter("http_unavailable_total", "Requests that were answered with status 503."),
		Requests: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "triggerd_http_request_seconds", Help: "Time of one request, by route and status.", Buckets: seconds,
		}, []string{"route", "status"}),
		registry: registry,
	}
}

// Gauge adds a gauge whose value is read at each scrape.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "triggerd_" + name, Help: help}, value))
}

// Counter adds a counter whose value is read at each scrape.
func (m *Metrics) Counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "triggerd_" + name, Help: help}, value))
}

// Check adds a gauge that is 1 while a check of readiness holds, else 0.
func (m *Metrics) Check(name string, holds func() bool) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "triggerd_ready", Help: "1 if this check of readiness holds, else 0.",
		ConstLabels: prometheus.Labels{"check": name},
	}, func() float64 {
		if holds() {
			return 1
		}
		return 0
	}))
}

// Backlog adds gauges of the open deliveries in the store: their number, and for
// how long the oldest has been due.
func (m *Metrics) Backlog(read func() (open int, oldest time.Duration)) {
	m.Gauge("deliveries_open", "Open deliveries to webhooks, counted up to 100000.", func() float64 {
		open, _ := read()
		return float64(open)
	})
	m.Gauge("delivery_oldest_due_seconds", "For how long the oldest due delivery has been waiting.", func() float64 {
		_, oldest := read()
		return oldest.Seconds()
	})
}

// Handler serves the metrics in Prometheus's text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
