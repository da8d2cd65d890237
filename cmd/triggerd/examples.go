package main

import (
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
)

//go:embed testdata/webhooks-examples-7.6.1/*.json.gz
var exampleFiles embed.FS

// example is one real webhook payload, as GitHub sends it.
type example struct {
	Type    string // for example "github.issues.opened": the event's name and, if the payload has one, its action
	Payload []byte // the JSON object, with its white space, byte for byte
}

// loadExamples returns all real payloads that are embedded, always in the same
// order. See testdata/webhooks-examples-7.6.1/README.md for their source.
func loadExamples() ([]example, error) {
	names, err := fs.Glob(exampleFiles, "testdata/*/*.json.gz")
	if err != nil {
		return nil, err
	}
	var examples []example
	for _, name := range names {
		of, err := readExamples(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		examples = append(examples, of...)
	}
	return examples, nil
}

// readExamples returns the payloads of one embedded file.
func readExamples(name string) ([]example, error) {
	file, err := exampleFiles.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(unzipped)
	if err != nil {
		return nil, err
	}
	var events []struct {
		Name     string
		Examples []json.RawMessage
	}
	if err := json.Unmarshal(content, &events); err != nil {
		return nil, err
	}
	var examples []example
	for _, event := range events {
		for _, payload := range event.Examples {
			var head struct{ Action any }
			if err := json.Unmarshal(payload, &head); err != nil {
				return nil, err
			}
			eventType := "github." + event.Name
			if action, ok := head.Action.(string); ok {
				eventType += "." + action
			}
			examples = append(examples, example{Type: eventType, Payload: payload})
		}
	}
	return examples, nil
}
