package trigger_test

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	notFound := trigger.Errorf(trigger.NotFound, "no such event")
	tests := []struct {
		name string
		err  error
		want trigger.Kind
	}{
		{"none", nil, trigger.Internal},
		{"foreign", io.EOF, trigger.Internal},
		{"own", notFound, trigger.NotFound},
		{"wrapped", fmt.Errorf("reading: %w", notFound), trigger.NotFound},
		{"joined", errors.Join(io.EOF, notFound), trigger.NotFound},
		{"first of two", &trigger.Error{Kind: trigger.Invalid, Cause: notFound}, trigger.Invalid},
	}
	for _, tt := range tests {
		if got := trigger.KindOf(tt.err); got != tt.want {
			t.Errorf("%s: KindOf(%v) = %d, want %d", tt.name, tt.err, got, tt.want)
		}
	}
}

func TestErrorKeepsItsCauseFromTheMessage(t *testing.T) {
	t.Parallel()
	err := trigger.NewUnavailable(io.ErrUnexpectedEOF, 3*time.Second)
	want := &trigger.Error{
		Kind:       trigger.Unavailable,
		Message:    "Service unavailable",
		Cause:      io.ErrUnexpectedEOF,
		RetryAfter: 3 * time.Second,
	}
	if !reflect.DeepEqual(err, want) {
		t.Errorf("NewUnavailable gives %#v, want %#v", err, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is hidden from errors.Is")
	}
	if got, want := err.Error(), "Service unavailable: unexpected EOF"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if got, want := trigger.Errorf(trigger.Invalid, "limit is %d", 0).Error(), "limit is 0"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

// wantValid fails the test unless err is as valid says: nil, or Invalid.
func wantValid(t testing.TB, what string, err error, valid bool) {
	t.Helper()
	if valid && err != nil {
		t.Errorf("%q: %v, want it accepted", what, err)
	}
	if !valid && (err == nil || trigger.KindOf(err) != trigger.Invalid) {
		t.Errorf("%q: error %v, want Invalid", what, err)
	}
}
