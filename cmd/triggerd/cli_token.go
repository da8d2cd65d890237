package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// tokenCommands manage the operator's token. They need the settings of the
// server's database, and no running server.
type tokenCommands struct {
	Show tokenShow `cmd:"" help:"Show the token in the data folder (SQLite)."`
	Path tokenPath `cmd:"" help:"Show the path of the file with the token (SQLite)."`
	New  tokenNew  `cmd:"" wants:"output" help:"Generate a token that replaces the previous one, and show it only once (PostgreSQL)."`
}

// Help returns the text above the flags.
func (*tokenCommands) Help() string {
	return "A server with an ADMIN_TOKEN accepts no other token.\n\n" + examples(
		"export ADMIN_TOKEN=$(triggerd token show)                 # of the data folder ./data",
		"DATABASE_URL=postgres://… triggerd token new >token.txt   # valid on all nodes within 5 s",
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
		return fmt.Errorf("the file %s does not exist: a server without ADMIN_TOKEN creates it at its first start; check that DATA_DIR, or --data-dir, is the server's", c.tokenPath())
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, token)
	return nil
}

type tokenPath struct{ databaseSettings }

// Run shows the path of the token's file.
func (c *tokenPath) Run(s *session) error {
	if err := c.wantsSQLite(); err != nil {
		return err
	}
	fmt.Fprintln(s.out, c.tokenPath())
	return nil
}

func (s *databaseSettings) wantsSQLite() error {
	if s.postgresURL() != "" {
		return errors.New("a server on PostgreSQL has no file with its operator token, only the hash in the database: triggerd token new generates another token")
	}
	return nil
}

type tokenNew struct{ databaseSettings }

// Run generates a token and shows it.
func (c *tokenNew) Run(ctx context.Context, s *session) (err error) {
	if err := c.checkDatabase(); err != nil {
		return err
	}
	if c.postgresURL() == "" {
		return fmt.Errorf("token new is for PostgreSQL: set DATABASE_URL, or DB_NAME and the other DB settings; on SQLite the token is in %s", c.tokenPath())
	}
	st, err := store.Open(ctx, store.Options{
		PostgresURL: c.postgresURL(), PoolSize: c.DBPoolSize, SecretKeys: c.SecretKey, Now: s.now, Unsafe: true, // it stores no events
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
