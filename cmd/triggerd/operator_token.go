package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"triggerd/internal/trigger"
)

// tokenFile is the file in the data folder of SQLite with the operator's token.
const tokenFile = "operator-token"

// tokenPath returns the path of the file with the operator's token.
func (s *databaseSettings) tokenPath() string { return filepath.Join(s.DataDir, tokenFile) }

// findToken returns the operator's token of the data folder, which it generates
// at the first start. It returns "" if ADMIN_TOKEN is set, or the token is in
// PostgreSQL. It fails if the server listens beyond loopback without a token or
// signup. It waits for a database that does not answer. The log never has the
// token.
func (s *server) findToken(ctx context.Context, now func() time.Time) (string, error) {
	set := &s.settings
	switch {
	case set.shortToken():
		s.log.Warn("ADMIN_TOKEN can be guessed", "characters", len(set.AdminToken), "want_at_least", leastToken)
		return "", nil
	case set.AdminToken != "":
		return "", nil
	case set.postgresURL() == "":
		return keepToken(set.tokenPath(), s.log)
	}
	for tries := 0; ; tries++ {
		_, err := s.store.OperatorToken(ctx)
		if err == nil {
			return "", nil
		}
		if trigger.KindOf(err) == trigger.NotFound {
			break
		}
		if err := s.awaitDatabase(ctx, now, tries, err); err != nil {
			return "", err
		}
	}
	if !set.onLoopback() && !set.OpenSignup {
		return "", set.errNobody()
	}
	s.log.Info("the operator token is missing: triggerd token new generates one")
	return "", nil
}

// keepToken reads the operator's token, or generates one if the file does not
// exist. The file's folder must belong to this process only.
func keepToken(path string, log *slog.Logger) (token string, err error) {
	token, err = readToken(path)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		token = drawToken()
		err = writeToken(path, token)
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("the operator token: %w", err)
	}
	if err := checkOwner(path, info, os.Geteuid()); err != nil {
		return "", err
	}
	log.Info("the operator token is in a file", "path", path, "made", made)
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			log.Warn("other users may read the operator token, and its mode cannot be changed", "path", path, "error", err)
		}
	}
	folder := filepath.Dir(path)
	if info, err := os.Stat(folder); err == nil && info.Mode().Perm()&0o002 != 0 {
		log.Warn("any user of this machine can replace the files of the data folder: chmod o-w it", "path", folder)
	}
	return token, nil
}

// checkOwner returns an error if the file with the token belongs neither to
// user, who runs this server, nor to root.
func checkOwner(path string, info fs.FileInfo, user int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 || int(stat.Uid) == user {
		return nil
	}
	return fmt.Errorf("the operator token in %s belongs to the user %d, want %d, who runs this server: the user who created the file knows the token; "+
		"remove it, and the next start generates another token", path, stat.Uid, user)
}

// drawToken generates an operator token.
func drawToken() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	return trigger.NewOperatorToken(random)
}

// readToken reads a file with an operator token. Its error is [fs.ErrNotExist]
// if the file does not exist, and never contains any of the content.
func readToken(path string) (string, error) {
	token, err := readSecret(path)
	if err == nil && !trigger.IsOperatorToken(token) {
		err = fmt.Errorf("the file %s has no operator token", path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; want the token that the server generated, tok_…: restore it, or remove the file, and the next start generates another token", err)
	}
	return token, err
}

// writeToken writes the file with the operator's token, which only its owner
// may read, whatever the umask. After a crash the file is complete or does not
// exist.
func writeToken(path, token string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("the operator token cannot be kept in %s: %w", path, err)
		}
	}()
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a crash
		return err
	}
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = file.Chmod(0o600)
	if err == nil {
		_, err = file.WriteString(token + "\n")
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}
