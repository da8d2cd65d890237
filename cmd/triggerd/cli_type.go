package main

import (
	"context"
	"fmt"
	"io"

	"triggerd/client"
)

type typeList struct {
	memberCommand
	listing
}

// Run lists the types.
func (c *typeList) Run(ctx context.Context, s *session) error {
	return list(s, c, c.Limit, func(api *client.Client, limit int, cursor string) (client.Page[client.EventType], error) {
		return api.EventTypesPage(ctx, limit, cursor)
	}, table[client.EventType]{
		[]string{"NAME", "MODE", "SCHEMA", "UPDATED", "DESCRIPTION"},
		func(t client.EventType) []string {
			return []string{t.Name, t.Mode, yesNo(hasSchema(t)), localTime(t.UpdatedAt), t.Description}
		},
	})
}

func hasSchema(t client.EventType) bool { return len(t.Schema) > 0 && string(t.Schema) != "null" }

type oneType struct {
	memberCommand
	Name string `arg:"" help:"The type's name."`
}

type typeShow struct{ oneType }

// Run shows a type.
func (c *typeShow) Run(ctx context.Context, s *session) error {
	return show(s, c, func(api *client.Client) (client.EventType, error) { return api.EventType(ctx, c.Name) }, writeType)
}

func writeType(w io.Writer, t client.EventType) {
	writeFields(w, "type", t.Name, "mode", t.Mode, "description", t.Description,
		"created", localTime(t.CreatedAt), "updated", localTime(t.UpdatedAt))
	if hasSchema(t) {
		fmt.Fprintf(w, "\n%s\n", cleanLines(string(t.Schema)))
	}
}

type typePut struct {
	oneType
	Schema      string `help:"A JSON Schema (2020-12) for the payload: JSON, @file, or - for standard input."`
	Mode        string `help:"How to treat a payload that does not match the schema: off, warn or reject. Default: warn."`
	Description string `help:"Description of the type."`
}

// Run creates a type, or replaces it.
func (c *typePut) Run(ctx context.Context, s *session) error {
	schema, err := s.value(ctx, "--schema", c.Schema)
	if err != nil {
		return err
	}
	in := client.EventTypeInput{Schema: schema, Mode: c.Mode, Description: c.Description}
	return show(s, c, func(api *client.Client) (client.EventType, error) { return api.PutEventType(ctx, c.Name, in) }, writeType)
}

type typeDelete struct{ oneType }

// Run deletes a type.
func (c *typeDelete) Run(ctx context.Context, s *session) error {
	return do(s, c, func(api *client.Client) error { return api.DeleteEventType(ctx, c.Name) }, "type "+c.Name+" is deleted")
}
