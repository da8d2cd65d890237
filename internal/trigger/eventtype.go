package trigger

import "time"

// EventType is what an organization says of a type of its events.
type EventType struct {
	Name        string
	Mode        ValidationMode
	Schema      []byte // JSON Schema 2020-12 of the payload, as it came; nil: none
	Description string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// ValidationMode says what becomes of an event whose payload does not fit its
// type's schema.
type ValidationMode string

// The modes.
const (
	ValidationOff    ValidationMode = "off"    // nothing is looked at
	ValidationWarn   ValidationMode = "warn"   // it is accepted, and the answer tells
	ValidationReject ValidationMode = "reject" // it is refused
)

// ParseValidationMode reads a mode's name. Invalid if there is no such mode.
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

// Check judges what the owner has said, the schema's own rules aside. Invalid
// says what is wrong.
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
