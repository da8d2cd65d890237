package store

import (
	"context"
	"fmt"
)

// OperatorToken returns the stored SHA-256 hash of the operator's token. It
// returns NotFound if no token is stored.
func (s *Store) OperatorToken(ctx context.Context) (hash [32]byte, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	hash, err = rowOf(ctx, s.read, func(r row) (hash [32]byte, err error) {
		var stored []byte
		if err := r.Scan(&stored); err != nil {
			return hash, err
		}
		if len(stored) != len(hash) {
			return hash, fmt.Errorf("the hash of the operator's token has %d bytes, want %d", len(stored), len(hash))
		}
		return [32]byte(stored), nil
	}, `SELECT hash FROM operator_token WHERE id = 1`)
	return wrapped("read the operator's token", hash, err)
}

// SetOperatorToken replaces the stored SHA-256 hash of the operator's token.
func (s *Store) SetOperatorToken(ctx context.Context, hash [32]byte) error {
	return wrap("store the operator's token", s.dialect.write(ctx, func(q querier) error {
		_, err := q.ExecContext(ctx, `INSERT INTO operator_token (id, hash, made_at) VALUES (1, $1, $2)
			ON CONFLICT (id) DO UPDATE SET hash = excluded.hash, made_at = excluded.made_at`, hash[:], micros(s.Now()))
		return err
	}))
}
