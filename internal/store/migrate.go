package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// migrations are forward only. A change that an older node cannot handle takes
// two: first expand, then, a version later, contract; the comment of 00002 says
// what the second one must do.
//
//go:embed migrations
var migrations embed.FS

// migrating is what an open waits for while it migrates.
const migrating = "the migration of the database to be over"

// migrate migrates the database to this program's schema, and returns the
// schema's number, which is the number of the newest migration. A database may
// be ahead of the program; migrate ignores newer parts, unless the database
// refuses the program.
func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, doing func(string), options ...goose.ProviderOption) (schema int64, err error) {
	folder := "migrations/postgres"
	if dialect == goose.DialectSQLite3 {
		folder = "migrations/sqlite"
	}
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return 0, err
	}
	provider, err := goose.NewProvider(dialect, db, files, append(options, goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return 0, err
	}
	doing(migrating)
	_, err = provider.Up(ctx)
	if err != nil && !errors.Is(err, goose.ErrNoNextVersion) {
		return 0, fmt.Errorf("migrate the database: %w", err)
	}
	sources := provider.ListSources()
	schema = sources[len(sources)-1].Version
	return schema, checkSchema(ctx, db, schema)
}

// errOutdated ends the message that refuses a program.
var errOutdated = errors.New("install that version or a newer one")

// checkSchema returns errOutdated if a newer program has changed the database
// so that a program with only this schema would do harm.
func checkSchema(ctx context.Context, q querier, schema int64) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var least int64
	err := q.QueryRowContext(ctx, `SELECT coalesce(max(least), 0) FROM compatibility`).Scan(&least)
	if err != nil {
		return fmt.Errorf("read which programs may open the database: %w", err)
	}
	if least > schema {
		return fmt.Errorf("the database was migrated by a newer triggerd (it needs schema %d, this program knows %d): %w",
			least, schema, errOutdated)
	}
	return nil
}
