package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// tokenCommands are about the operator's token. They need the settings of the
// server's database, and no server.
type tokenCommands struct {
	Show tokenShow `cmd:"" help:"Show the token in the data folder (SQLite)."`
	Path tokenPath `cmd:"" help:"Show the path of the file with the token (SQLite)."`
	New  tokenNew  `cmd:"" wants:"output" help:"Make a token, instead of the one before, and show it this once (PostgreSQL)."`
}

// Help is what stands above the flags.
func (*tokenCommands) Help() string {
	return "A server with an ADMIN_TOKEN takes that alone.\n\n" + examples(
		"export ADMIN_TOKEN=$(triggerd token show)                 # of the data folder ./data",
		"DATABASE_URL=postgres://… triggerd token new >token.txt   # holds on all nodes within 5 s",
	)
}

type tokenShow struct{ databaseSettings }

// Run shows the token.
func (c *tokenShow) Run(s *session) error {
	if err := c.wantsSQLite(); err != nil {
		return err
	}
	token, err := readToken(c.tokenPath())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s: a server without ADMIN_TOKEN makes it at its first start; is DATA_DIR, or --data-dir, the server's?", c.tokenPath())
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, token)
	return nil
}

type tokenPath struct{ databaseSettings }

// Run shows the path.
func (c *tokenPath) Run(s *session) error {
	if err := c.wantsSQLite(); err != nil {
		return err
	}
	fmt.Fprintln(s.out, c.tokenPath())
	return nil
}

func (s *databaseSettings) wantsSQLite() error {
	if s.postgresURL() != "" {
		return errors.New("a server on PostgreSQL has no file with its operator token, only the hash in the database: triggerd token new makes another token")
	}
	return nil
}

type tokenNew struct{ databaseSettings }

// Run makes a token and shows it.
func (c *tokenNew) Run(ctx context.Context, s *session) (err error) {
	if err := c.checkDatabase(); err != nil {
		return err
	}
	if c.postgresURL() == "" {
		return fmt.Errorf("token new is for PostgreSQL: set DATABASE_URL, or DB_NAME and its like; on SQLite the token is in %s", c.tokenPath())
	}
	st, err := store.Open(ctx, store.Options{
		PostgresURL: c.postgresURL(), PoolSize: c.DBPoolSize, SecretKeys: c.SecretKey, Now: s.now, Unsafe: true, // it keeps no events
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Leave(ctx), st.Close()) }()
	token := drawToken()
	if err := st.SetOperatorToken(ctx, trigger.HashOperatorToken(token)); err != nil {
		return err
	}
	fmt.Fprintln(s.out, token)
	return nil
}
