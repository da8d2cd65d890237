package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// helpDefault finds a default that only the help tells, since it is no value.
var helpDefault = regexp.MustCompile(`Default: ([\w.]*\w)`)

// TestReadmeHasTheSettings compares the table of the settings in README.md
// with the flags of serve: each name, in both forms, and each default.
func TestReadmeHasTheSettings(t *testing.T) {
	t.Parallel()
	var cli commands
	parser, err := kong.New(&cli, defaults())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	told := settingsTable(readme)
	for _, flag := range parsed.Selected().Flags {
		name := environmentName(flag.Name)
		row, there := told[name]
		delete(told, name)
		if !there || row.flag != "--"+flag.Name {
			t.Errorf("README.md has no row for %s with --%s: %q", name, flag.Name, row)
			continue
		}
		if file := fileVariableOf(flag.Value); file != "" && !strings.Contains(readme, "`"+file+"`") {
			t.Errorf("README.md does not name %s", file)
		}
		if want, isPart := defaultOf(flag); row.value != want && !(isPart && strings.Contains(row.value, want)) {
			t.Errorf("README.md says that the default of %s is %q, and it is %q", name, row.value, want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		t.Errorf("README.md has a setting that is not there: %s", name)
	}
}

// defaultOf is a flag's default as people write it; isPart says that it is
// told in words, of which this is a part.
func defaultOf(flag *kong.Flag) (value string, isPart bool) {
	switch match := helpDefault.FindStringSubmatch(flag.Help); {
	case flag.HasDefault:
		return strings.NewReplacer("h0m0s", "h", "m0s", "m").Replace(flag.Default), false
	case flag.IsBool():
		return "false", false
	case match != nil:
		return match[1], true
	}
	return "none", false
}

type settingRow struct{ flag, value string }

// settingsTable returns the rows of README.md that begin with the names of an
// environment variable and a flag.
func settingsTable(readme string) map[string]settingRow {
	rows := map[string]settingRow{}
	row := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| `(--[a-z-]+)` \\| ([^|]+) \\|")
	for _, cells := range row.FindAllStringSubmatch(readme, -1) {
		rows[cells[1]] = settingRow{cells[2], strings.ReplaceAll(cells[3], "`", "")}
	}
	return rows
}
