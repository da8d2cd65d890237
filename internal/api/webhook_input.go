package api

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"triggerd/internal/trigger"
)

// webhookInput is the body of a request that creates or changes a webhook.
type webhookInput struct {
	URL         opt[string]          `json:"url"`
	Types       opt[[]*string]       `json:"types"`
	Content     opt[json.RawMessage] `json:"content"`
	Format      opt[string]          `json:"format"`
	Timeout     opt[float64]         `json:"timeout_seconds"`
	Schedule    opt[[]*float64]      `json:"schedule_seconds"`
	Rate        opt[float64]         `json:"rate"`
	Concurrency opt[int]             `json:"concurrency"`
	Headers     opt[json.RawMessage] `json:"headers"`
	Auth        opt[json.RawMessage] `json:"auth"`
	Description opt[string]          `json:"description"`
	Metadata    opt[json.RawMessage] `json:"metadata"`

	// only for new webhooks
	Secret    opt[string] `json:"secret"`
	Signature opt[string] `json:"signature"`
	State     opt[string] `json:"state"`
}

// invalid returns an Invalid error about a place in the body.
func invalid(pointer, format string, args ...any) error {
	return trigger.Errorf(trigger.Invalid, format, args...).At(pointer)
}

// hasCode reports whether an error has a code besides its kind.
func hasCode(err error) bool {
	e, ok := errors.AsType[*trigger.Error](err)
	return ok && e.Code != ""
}

// webhook returns a new webhook.
func (in *webhookInput) webhook() (w trigger.Webhook, err error) {
	if in.URL.or("") == "" {
		return w, invalid("#/url", "url is missing")
	}
	switch in.State.or(string(trigger.Active)) {
	case string(trigger.Active):
		w.State = trigger.Active
	case string(trigger.Paused):
		w.State, w.PausedBy = trigger.Paused, trigger.PausedByOwner
	default:
		return w, invalid("#/state", "state must be active or paused; got %.60q", in.State.Value)
	}
	wish, err := wishedSecret(&in.Secret, &in.Signature)
	if err != nil {
		return w, err
	}
	w.Secrets = trigger.OneSecret(wish.make(symmetricType))
	return w, in.apply(&w)
}

// checkPatch refuses members that only a new webhook can have.
func (in *webhookInput) checkPatch() error {
	for name, o := range map[string]*opt[string]{"secret": &in.Secret, "signature": &in.Signature, "state": &in.State} {
		if o.Given {
			return invalid("#/"+name, "%s cannot be changed by this request", name)
		}
	}
	if in.URL.Null {
		return invalid("#/url", "url must not be null")
	}
	return nil
}

// patch is apply for an existing webhook. The error is Invalid if the URL moves
// to another origin while auth or headers are kept. Otherwise a client could
// send these values, which it cannot read, to a receiver of its own.
func (in *webhookInput) patch(w *trigger.Webhook) error {
	from, to := trigger.Origin(w.URL), trigger.Origin(in.URL.Value)
	moves := in.URL.Given && (from != to || from == "")
	var kept []string
	if w.Auth != (trigger.Auth{}) && !in.Auth.Given {
		kept = append(kept, "auth")
	}
	if len(w.Headers) > 0 && !in.Headers.Given {
		kept = append(kept, "headers")
	}
	if !moves || kept == nil {
		return in.apply(w)
	}
	err := trigger.Errorf(trigger.Invalid, "url moves from %s to %s: set %s again, or to null to remove the stored value, which is sent to its own origin alone",
		from, to, strings.Join(kept, " and "))
	for _, name := range kept {
		err = err.At("#/" + name)
	}
	return err
}

// apply sets the given members of a webhook; null sets the default.
func (in *webhookInput) apply(w *trigger.Webhook) (err error) {
	if in.URL.Given {
		w.URL = in.URL.Value
	}
	for _, part := range []func(*trigger.Webhook) error{in.applyFilter, in.applyPace, in.applySchedule, in.applyRequest, in.applyNotes} {
		if err := part(w); err != nil {
			return err
		}
	}
	return nil
}

func (in *webhookInput) applyFilter(w *trigger.Webhook) (err error) {
	if in.Types.Given {
		if w.Filter.Types, err = patterns(in.Types.Value); err != nil {
			return err
		}
	}
	if in.Content.Given {
		if w.Filter.Content, err = content(&in.Content); err != nil {
			return err
		}
	}
	return nil
}

// content parses a condition; nil if it is absent.
func content(o *opt[json.RawMessage]) (*trigger.Content, error) {
	if len(o.Value) == 0 {
		return nil, nil
	}
	return trigger.ParseContent(o.Value)
}

// patterns parses the member types.
func patterns(texts []*string) (list []trigger.Pattern, err error) {
	if len(texts) > trigger.MaxPatterns {
		return nil, invalid("#/types", "types must have at most %d patterns; got %d", trigger.MaxPatterns, len(texts))
	}
	for i, text := range texts {
		var p trigger.Pattern
		if text != nil {
			p, err = trigger.ParsePattern(*text)
		}
		if err != nil || p.String() == "" {
			return nil, invalid("#/types/"+strconv.Itoa(i), "a pattern must have 1 to %d bytes, no control characters and at most %d stars",
				trigger.MaxFilter, trigger.MaxStars)
		}
		list = append(list, p)
	}
	return list, nil
}

func (in *webhookInput) applyPace(w *trigger.Webhook) (err error) {
	if in.Timeout.Given {
		w.Timeout = 0
		if !in.Timeout.Null {
			if w.Timeout, err = seconds("timeout_seconds", in.Timeout.Value, trigger.MinTimeout, trigger.MaxTimeout); err != nil {
				return err
			}
		}
	}
	if in.Rate.Given {
		w.Rate = in.Rate.Value
		if !in.Rate.Null && !(w.Rate >= trigger.MinRate && w.Rate <= trigger.MaxRate) {
			return invalid("#/rate", "rate must be from one a minute to %v deliveries a second; got %v", trigger.MaxRate, w.Rate)
		}
	}
	if in.Concurrency.Given {
		w.Concurrency = in.Concurrency.Value
		if !in.Concurrency.Null && (w.Concurrency < 1 || w.Concurrency > trigger.MaxConcurrency) {
			return invalid("#/concurrency", "concurrency must be from 1 to %d; got %d", trigger.MaxConcurrency, w.Concurrency)
		}
	}
	return nil
}

func (in *webhookInput) applySchedule(w *trigger.Webhook) (err error) {
	if !in.Schedule.Given {
		return nil
	}
	if w.Schedule = nil; in.Schedule.Null {
		return nil
	}
	if len(in.Schedule.Value) > trigger.MaxPauses {
		return invalid("#/schedule_seconds", "schedule_seconds must have at most %d pauses; got %d", trigger.MaxPauses, len(in.Schedule.Value))
	}
	w.Schedule = make(trigger.Schedule, len(in.Schedule.Value))
	for i, pause := range in.Schedule.Value {
		name := "schedule_seconds/" + strconv.Itoa(i)
		if pause == nil {
			return invalid("#/"+name, "%s must be a number; got null", name)
		}
		if w.Schedule[i], err = seconds(name, *pause, 0, trigger.MaxPause); err != nil {
			return err
		}
	}
	if w.Schedule.ShortPauses() > trigger.MaxShortPauses {
		return invalid("#/schedule_seconds", "at most %d pauses of schedule_seconds may be shorter than 1 s", trigger.MaxShortPauses)
	}
	return nil
}

// applyRequest sets the members that affect each request.
func (in *webhookInput) applyRequest(w *trigger.Webhook) (err error) {
	if in.Format.Given {
		w.Format = ""
		if !in.Format.Null {
			w.Format, err = trigger.ParseFormat(in.Format.Value)
			if err != nil || in.Format.Value == "" {
				return invalid("#/format", "format must be standard, cloudevents or payload; got %.60q", in.Format.Value)
			}
		}
	}
	if in.Headers.Given {
		if w.Headers, err = stringsOf(&in.Headers, "headers"); err != nil {
			return err
		}
		if err := (&trigger.Webhook{Headers: w.Headers}).Check(); err != nil {
			return trigger.AtMember(err, "#/headers")
		}
	}
	if in.Auth.Given {
		w.Auth, err = auth(&in.Auth)
	}
	return err
}

func (in *webhookInput) applyNotes(w *trigger.Webhook) (err error) {
	if in.Description.Given {
		w.Description = in.Description.Value
		if err := (&trigger.Webhook{Description: w.Description}).Check(); err != nil {
			return trigger.AtMember(err, "#/description")
		}
	}
	if in.Metadata.Given {
		if w.Metadata, err = stringsOf(&in.Metadata, "metadata"); err != nil {
			return err
		}
		err = trigger.AtMember((&trigger.Webhook{Metadata: w.Metadata}).Check(), "#/metadata")
	}
	return err
}

// stringsOf returns a member that is an object of strings.
func stringsOf(o *opt[json.RawMessage], name string) (m map[string]string, err error) {
	if len(o.Value) == 0 {
		return nil, nil
	}
	root := gjson.ParseBytes(o.Value)
	if !root.IsObject() {
		return nil, invalid("#/"+name, "%s must be an object", name)
	}
	m = make(map[string]string)
	root.ForEach(func(key, value gjson.Result) bool {
		pointer := "#/" + name + pointerTo(key.Str)[1:]
		switch _, twice := m[key.Str]; {
		case value.Type != gjson.String:
			err = invalid(pointer, "the values of %s must be strings", name)
		case twice:
			err = invalid(pointer, "%.64q must appear only once in %s", key.Str, name)
		}
		m[key.Str] = value.Str
		return err == nil
	})
	return m, err
}

// auth returns the member auth. No message contains its values.
func auth(o *opt[json.RawMessage]) (given trigger.Auth, err error) {
	if len(o.Value) == 0 {
		return given, nil
	}
	var in struct {
		Type     opt[string] `json:"type"`
		Token    opt[string] `json:"token"`
		User     opt[string] `json:"user"`
		Password opt[string] `json:"password"`
	}
	if err := decode(o.Value, &in, "#/auth"); err != nil {
		return given, err
	}
	belongs := map[string]*opt[string]{"token": &in.Token}
	others := map[string]*opt[string]{"user": &in.User, "password": &in.Password}
	switch in.Type.or("") {
	case "bearer":
	case "basic":
		belongs, others = others, belongs
	default:
		return given, invalid("#/auth/type", "the type of auth must be bearer or basic")
	}
	for name, member := range belongs {
		if !member.Given || member.Null {
			return given, invalid("#/auth/"+name, "%s is missing", name)
		}
	}
	for name, member := range others {
		if member.Given {
			return given, invalid("#/auth/"+name, "%s must not be set for this type of auth", name)
		}
	}
	given = trigger.Auth{Bearer: in.Token.Value, User: in.User.Value, Password: in.Password.Value}
	if given == (trigger.Auth{}) {
		return given, invalid("#/auth", "auth must not be empty")
	}
	return given, trigger.AtMember((&trigger.Webhook{Auth: given}).Check(), "#/auth")
}
