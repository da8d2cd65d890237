package api

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// The original contract: answers have kebab-case keys, requests snake_case. Its
// behaviour is fixed; new features go elsewhere.

func (a *API) getHealth(w http.ResponseWriter, _ *request) error {
	answer(w, http.StatusOK, struct {
		Status    string `json:"status"`
		Timestamp string `json:"timestamp"`
	}{"ok", a.Now().UTC().Format("2006-01-02T15:04:05.000000Z")})
	return nil
}

func (a *API) getCacheStats(w http.ResponseWriter, _ *request) error {
	s := a.Writer.Cache.Stats()
	answer(w, http.StatusOK, struct {
		Size    int     `json:"size"`
		MaxSize int     `json:"max-size"`
		HitRate float64 `json:"hit-rate"`
	}{s.Size, s.Max, s.HitRate})
	return nil
}

// postKey creates an organization with a key, which is shown only this once.
func (a *API) postKey(w http.ResponseWriter, r *request) error {
	body, free, err := a.readJSON(w, r)
	if err != nil {
		return err
	}
	defer free()
	o, err := parseObject(body, "organization_name", "tier")
	if err != nil {
		return err
	}
	org, err := parseOrganization(o)
	if err != nil {
		return err
	}
	if err := a.countSignup(r, org.Tier); err != nil {
		return err
	}
	shown, key := drawKey()
	if _, err := a.Store.AddOrganization(r.Context(), org, key, store.Once{}); err != nil {
		return err
	}
	answer(w, http.StatusOK, struct {
		APIKey           string       `json:"api-key"`
		OrganizationName string       `json:"organization-name"`
		Tier             trigger.Tier `json:"tier"`
	}{shown, org.Name, org.Tier})
	return nil
}

func parseOrganization(o object) (org trigger.Organization, err error) {
	if org.Name, err = o.required("organization_name"); err != nil {
		return org, err
	}
	if err := trigger.CheckName(org.Name); err != nil {
		return org, err
	}
	tier, given, err := o.str("tier")
	switch {
	case err != nil:
		return org, err
	case given:
		org.Tier, err = trigger.ParseTier(tier)
	default:
		org.Tier = trigger.Free
	}
	return org, err
}

// postEvent accepts an event. It answers when the event is durable.
func (a *API) postEvent(w http.ResponseWriter, r *request) error {
	result, err := a.acceptEvent(w, r)
	if err != nil {
		a.Metrics.Rejected.WithLabelValues(reasonOf(err)).Inc()
		return err
	}
	b := make([]byte, 0, 128)
	if result.Duplicate {
		b = append(b, `{"status":"duplicate","event-id":"`...)
		b = append(b, result.EventID.String()...)
		b = append(b, `","message":"Event already exists"}`...)
	} else {
		b = append(b, `{"status":"accepted","event-id":"`...)
		b = append(b, result.EventID.String()...)
		b = append(b, `"}`...)
	}
	answerJSON(w, http.StatusOK, b)
	return nil
}

// getInbox lists events with their status, newest first.
func (a *API) getInbox(w http.ResponseWriter, r *request) error {
	status, limit, err := parseInbox(r.URL.RawQuery)
	if err != nil {
		return err
	}
	orgID := r.key.Organization.ID
	page, err := a.Store.ListEvents(r.Context(), orgID, status, limit)
	if err != nil {
		return err
	}
	return a.writeEvents(w, r, `{"events":[`, page, appendInboxEvent, func(count int) []byte {
		return append(strconv.AppendInt([]byte(`],"count":`), int64(count), 10), '}')
	})
}

func appendInboxEvent(b []byte, e *trigger.Event, status trigger.Status) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, e.ID.String()...)
	b = append(b, `","type":`...)
	b = trigger.AppendString(b, e.Type)
	b = append(b, `,"payload":`...)
	b = append(b, e.Payload...)
	b = append(b, `,"status":"`...)
	b = append(b, status...)
	b = append(b, `","created-at":"`...)
	b = trigger.AppendTime(b, e.ID.Time())
	return append(b, `"}`...)
}

// defaultInbox is the number of events of a page if the request has no limit.
const defaultInbox = 10

// parseInbox parses status and limit. Each may be given once, and never empty.
func parseInbox(rawQuery string) (status trigger.Status, limit int, err error) {
	q, err := url.ParseQuery(rawQuery)
	if err != nil {
		return "", 0, trigger.Errorf(trigger.Invalid, "The query string cannot be parsed")
	}
	limit = defaultInbox
	if values, given := q["limit"]; given {
		limit, err = strconv.Atoi(values[0])
		if err != nil || len(values) > 1 || limit < 1 || limit > maxPage || strings.HasPrefix(values[0], "+") {
			return "", 0, trigger.Errorf(trigger.Invalid, "limit must be an integer from 1 to %d, given once; got %.60q", maxPage, values[0])
		}
	}
	if values, given := q["status"]; given {
		if len(values) > 1 {
			return "", 0, trigger.Errorf(trigger.Invalid, "status must appear only once")
		}
		status, err = trigger.ParseStatus(values[0])
	}
	return status, limit, err
}

// registerWebhook registers a webhook with a secret, which is shown only this
// once.
func (a *API) registerWebhook(w http.ResponseWriter, r *request) error {
	body, free, err := a.readJSON(w, r)
	if err != nil {
		return err
	}
	defer free()
	o, err := parseObject(body, "url", "event_type_filter")
	if err != nil {
		return err
	}
	hook := trigger.Webhook{State: trigger.Active}
	if hook.URL, err = o.required("url"); err != nil {
		return err
	}
	pattern, _, err := o.str("event_type_filter")
	if err != nil {
		return err
	}
	if hook.Filter, err = trigger.ParseFilter([]string{pattern}, nil); err != nil {
		return err
	}
	if err := a.Guard.Target(r.Context(), hook.URL); err != nil {
		return err
	}
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	secret := trigger.NewSecret(random)
	hook.Secrets = trigger.OneSecret(secret)
	id, err := a.Store.AddWebhook(r.Context(), r.key.Organization.ID, hook, store.Once{})
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, struct {
		Status    string `json:"status"`
		WebhookID int64  `json:"webhook-id"`
		Secret    string `json:"secret"`
	}{"registered", id, secret.Reveal()})
	return nil
}
