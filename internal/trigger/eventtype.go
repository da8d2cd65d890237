package trigger

import "time"

// EventType describes a type of an organization's events.
type EventType struct {
	Name        string
	Mode        ValidationMode
	Schema      []byte // JSON Schema 2020-12 of the payload, as posted; may be nil
	Description string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// ValidationMode says what happens to an event whose payload does not match the
// schema of its type.
type ValidationMode string

// The modes.
const (
	ValidationOff    ValidationMode = "off"    // payloads are not validated
	ValidationWarn   ValidationMode = "warn"   // it is accepted with a warning in the answer
	ValidationReject ValidationMode = "reject" // it is refused
)

// ParseValidationMode reads the name of a mode. An unknown name is Invalid.
func ParseValidationMode(s string) (ValidationMode, error) {
	switch m := ValidationMode(s); m {
	case ValidationOff, ValidationWarn, ValidationReject:
		return m, nil
	}
	return "", Errorf(Invalid, "mode must be off, warn or reject; got %.60q", s)
}

// Limits of event types.
const (
	MaxEventTypes = 500      // of one organization
	MaxSchema     = 64 << 10 // bytes of one schema
)

// Check returns an Invalid error if a value that the owner chose is not valid.
// It does not compile the schema.
func (t *EventType) Check() error {
	if err := checkText("name", t.Name, MaxType); err != nil {
		return err
	}
	switch {
	case len(t.Schema) > MaxSchema:
		return Errorf(Invalid, "schema must have at most %d bytes; got %d", MaxSchema, len(t.Schema)).At("#/schema")
	case !isNote(t.Description, MaxDescription):
		return Errorf(Invalid, "description must have at most %d bytes of UTF-8 without NUL", MaxDescription).At("#/description")
	}
	return nil
}
