package api

import (
	"encoding/json"
	"net/http"

	"triggerd/internal/trigger"
)

// typeName returns the name of an event type in the path of a request. The error
// is Malformed if it is not valid. "." and ".." are not, because no path can
// contain them, even if escaped. ("/" does not get here: ServeMux takes it for
// the path's end.)
func (r *request) typeName() (string, error) {
	name := r.PathValue("name")
	t := trigger.EventType{Name: name}
	if err := t.Check(); err != nil {
		return "", wrongParameter("name", "%s", err.Error())
	}
	if name == "." || name == ".." {
		return "", wrongParameter("name", "name must not be . or ..")
	}
	return name, nil
}

// appendEventType appends the form of a type in /v1, with its original schema.
func appendEventType(b []byte, t *trigger.EventType) []byte {
	b = append(b, `{"name":`...)
	b = trigger.AppendString(b, t.Name)
	b = append(b, `,"mode":"`...)
	b = append(b, t.Mode...)
	b = append(b, `","schema":`...)
	if t.Schema == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, t.Schema...)
	}
	b = append(b, `,"description":`...)
	b = trigger.AppendString(b, t.Description)
	b = append(b, `,"created_at":`...)
	b = appendTimeOrNull(b, t.CreatedAt)
	b = append(b, `,"updated_at":`...)
	b = appendTimeOrNull(b, t.UpdatedAt)
	return append(b, '}')
}

// listEventTypes lists the types by name.
func (a *API) listEventTypes(w http.ResponseWriter, r *request) error {
	q, err := parameters(r, "limit", "cursor")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	after, err := q.place(0)
	if err != nil {
		return err
	}
	found, err := a.Store.ListEventTypes(r.Context(), r.orgID(), string(after), limit+1)
	if err != nil {
		return err
	}
	size := 0
	for i := range found {
		size += 2 * len(found[i].Schema) // twice: as read, and as written
	}
	h := a.holderOf(r)
	if err := a.used.takeFor(h, size); err != nil {
		return err
	}
	defer a.used.giveFor(h, size)
	b := []byte(`{"data":[`)
	page := found[:min(len(found), limit)]
	for i := range page {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEventType(b, &page[i])
	}
	if b = append(b, `],"next_cursor":`...); len(found) > limit {
		b = append(b, '"')
		b = append(b, *q.next([]byte(page[limit-1].Name))...)
		b = append(b, `"}`...)
	} else {
		b = append(b, "null}"...)
	}
	answerJSON(w, http.StatusOK, b)
	return nil
}

// getEventType shows a type.
func (a *API) getEventType(w http.ResponseWriter, r *request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	name, err := r.typeName()
	if err != nil {
		return err
	}
	t, err := a.Store.EventType(r.Context(), r.orgID(), name)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, appendEventType(nil, &t))
	return nil
}

// putEventType registers a type, or replaces it.
func (a *API) putEventType(w http.ResponseWriter, r *request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	name, err := r.typeName()
	if err != nil {
		return err
	}
	var in struct {
		Schema      opt[json.RawMessage] `json:"schema"`
		Mode        opt[string]          `json:"mode"`
		Description opt[string]          `json:"description"`
	}
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	t := trigger.EventType{Name: name, Description: in.Description.or("")}
	if t.Mode, err = trigger.ParseValidationMode(in.Mode.or(string(trigger.ValidationWarn))); err != nil {
		return trigger.AtMember(err, "#/mode")
	}
	if t.Schema = in.Schema.or(nil); t.Schema != nil {
		if err := t.Check(); err != nil { // its size, before it is compiled
			return err
		}
		if err := a.types.tryCompile(r.Context(), r.orgID(), t.Schema); err != nil {
			return err
		}
	}
	set, added, err := a.Store.SetEventType(r.Context(), r.orgID(), t)
	if err != nil {
		return err
	}
	a.keys.forget(r.orgID())
	status := http.StatusOK
	if added {
		status = http.StatusCreated
	}
	answerJSON(w, status, appendEventType(nil, &set))
	return nil
}

// deleteEventType deletes a type.
func (a *API) deleteEventType(w http.ResponseWriter, r *request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	name, err := r.typeName()
	if err != nil {
		return err
	}
	if err := a.Store.DeleteEventType(r.Context(), r.orgID(), name); err != nil {
		return err
	}
	a.keys.forget(r.orgID())
	w.WriteHeader(http.StatusNoContent)
	return nil
}
