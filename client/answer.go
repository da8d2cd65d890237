package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrForeign is returned if a successful answer does not have the form of a
// triggerd answer, for example because BaseURL is the URL of another server. It
// says nothing about the result of the call.
var ErrForeign = errors.New("not the answer of a triggerd")

// complete is implemented by the types that an answer is decoded into.
type complete interface {
	// missing returns the name of a required member that the answer lacks, or
	// "" if none is missing.
	missing() string
}

// readAnswer decodes an answer. It returns ErrForeign if the answer is not one
// of triggerd.
func readAnswer[T complete](body []byte) (out T, err error) {
	if err := json.Unmarshal(body, &out); err != nil {
		var none T
		return none, fmt.Errorf("%w: %s", ErrForeign, unreadable(err))
	}
	if name := out.missing(); name != "" {
		var none T
		return none, fmt.Errorf("%w: it has no %s", ErrForeign, name)
	}
	return out, nil
}

// unreadable describes why JSON cannot be decoded, without the names of Go
// types.
func unreadable(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return "it is not JSON: " + err.Error()
	case wrong.Field == "":
		return "it is a JSON " + wrong.Value
	}
	return wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:] + " is a JSON " + wrong.Value
}

// unless returns name if there is false.
func unless(there bool, name string) string {
	if there {
		return ""
	}
	return name
}

func (a Accepted) missing() string {
	if a.Status != PostAccepted && a.Status != PostDuplicate {
		return "known status"
	}
	return unless(a.ID != "", "id")
}

func (v Verdict) missing() string {
	switch v.Status {
	case PostAccepted, PostDuplicate:
		return unless(v.ID != "", "id")
	case PostRejected, PostUnavailable:
		return unless(v.Problem != nil, "problem")
	}
	return "known status"
}

func (p Page[T]) missing() string         { return unless(p.Data != nil, "data") }
func (l list[T]) missing() string         { return unless(l.Data != nil, "data") }
func (c Claim) missing() string           { return unless(c.Data != nil, "data") }
func (e Extension) missing() string       { return unless(e.Data != nil, "data") }
func (s samples) missing() string         { return unless(s != nil, "list") }
func (p ReplayPreview) missing() string   { return unless(p.Samples != nil, "samples") }
func (d DryRun) missing() string          { return unless(d.Samples != nil, "samples") }
func (e Event) missing() string           { return unless(e.ID != "", "id") }
func (a Attempt) missing() string         { return unless(a.EventID != "", "event_id") }
func (r Resent) missing() string          { return unless(r.EventID != "", "event_id") }
func (e EventType) missing() string       { return unless(e.Name != "", "name") }
func (w Webhook) missing() string         { return unless(w.ID != 0, "id") }
func (r Replay) missing() string          { return unless(r.ID != 0, "id") }
func (k Key) missing() string             { return unless(k.ID != 0, "id") }
func (o Organization) missing() string    { return unless(o.ID != 0, "id") }
func (n NewOrganization) missing() string { return unless(n.Organization.ID != 0, "organization") }
func (m Me) missing() string              { return unless(m.Organization.ID != 0, "organization") }
