package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrations are forward only. A change that an older node cannot live with
// comes in two: first expand, then, a version later, contract.
//
//go:embed migrations
var migrations embed.FS

func migratePostgres(ctx context.Context, db *sql.DB) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // every second, for 5 minutes
	if err != nil {
		return err
	}
	return migrate(ctx, goose.DialectPostgres, db, goose.WithSessionLocker(locker))
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, options ...goose.ProviderOption) error {
	folder := "migrations/postgres"
	if dialect == goose.DialectSQLite3 {
		folder = "migrations/sqlite"
	}
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, files, append(options, goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	if err != nil && !errors.Is(err, goose.ErrNoNextVersion) {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}
