package store

import (
	"maps"
	"testing"
)

// Each setting without which an acknowledged event could be lost is refused
// with a line that says what to do; asked for, it is a warning.
func TestSettingsThatLoseEvents(t *testing.T) {
	t.Parallel()
	postgres := map[string]string{
		"server_version_num": "150000", "server_encoding": "UTF8", "synchronous_standby_names": "",
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
	}
	withStandby := maps.Clone(postgres)
	withStandby["synchronous_standby_names"] = "*"
	sqlite := map[string]string{"journal_mode": "wal", "synchronous": "2"}
	tests := []struct {
		judge             func(*Store, Options, map[string]string) error
		good              map[string]string
		name, value, want string
	}{
		{checkSettings, postgres, "fsync", "on", ""},
		{checkSettings, postgres, "synchronous_commit", "local", ""},
		{checkSettings, postgres, "synchronous_commit", "remote_apply", ""},
		{checkSettings, postgres, "fsync", "off", "PostgreSQL runs with fsync=off and would lose acknowledged events in a crash: set it on"},
		{
			checkSettings, postgres, "full_page_writes", "off",
			"PostgreSQL runs with full_page_writes=off and would lose acknowledged events in a crash: set it on",
		},
		{
			checkSettings, postgres, "synchronous_commit", "off",
			"PostgreSQL runs with synchronous_commit=off and would lose acknowledged events in a crash: set it on",
		},
		{checkSettings, withStandby, "synchronous_commit", "remote_write", ""},
		{
			checkSettings, withStandby, "synchronous_commit", "local", "PostgreSQL has a synchronous standby and runs with synchronous_commit=local, " +
				"which does not wait for it, and would lose acknowledged events in a failover: set it on",
		},
		{checkPragmas, sqlite, "synchronous", "2", ""},
		{
			checkPragmas, sqlite, "synchronous", "1",
			"SQLite runs with synchronous=1 and would lose acknowledged events in a crash: put the data folder on a local disk with --data-dir",
		},
		{
			checkPragmas, sqlite, "journal_mode", "memory",
			"SQLite runs with journal_mode=memory and would lose acknowledged events in a crash: put the data folder on a local disk with --data-dir",
		},
	}
	for _, test := range tests {
		settings := maps.Clone(test.good)
		settings[test.name] = test.value
		err := test.judge(&Store{}, Options{}, settings)
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("%s=%s: error %v, want %q", test.name, test.value, err, test.want)
		}
		s := &Store{}
		err = test.judge(s, Options{Unsafe: true}, settings)
		if warned := len(s.Warnings) == 1 && s.Warnings[0] == test.want; err != nil || warned != (test.want != "") {
			t.Errorf("%s=%s, taken unsafe: error %v, warnings %q", test.name, test.value, err, s.Warnings)
		}
	}
}

// What has no way around is refused, asked for or not.
func TestSettingsThatCannotWork(t *testing.T) {
	t.Parallel()
	good := map[string]string{"server_version_num": "140000", "server_encoding": "UTF8"}
	for name, value := range map[string]string{"server_version_num": "130012", "server_encoding": "SQL_ASCII"} {
		settings := maps.Clone(good)
		settings[name] = value
		if err := checkSettings(&Store{}, Options{Unsafe: true}, settings); err == nil {
			t.Errorf("%s=%s is taken", name, value)
		}
	}
	if err := checkSettings(&Store{}, Options{}, good); err != nil {
		t.Errorf("PostgreSQL 14 is refused: %v", err)
	}
}
