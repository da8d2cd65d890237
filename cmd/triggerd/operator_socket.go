package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// socketFile is the socket in the data folder of SQLite that commands on
	// this machine use as the operator.
	socketFile = "operator.sock"
	// maxSocketPath is the maximum length of the path of a socket, in bytes.
	maxSocketPath = 107
)

// socketPath returns the path of the operator's socket.
func (s *databaseSettings) socketPath() string { return filepath.Join(s.DataDir, socketFile) }

// operatorSocket serves the operator: every process that can open the socket is
// the operator.
type operatorSocket struct {
	path     string
	listener *net.UnixListener
	info     fs.FileInfo // of the socket that this process has created
	http     *http.Server
}

// openSocket creates the operator's socket in the data folder, which must
// belong to this process only. If it fails, the server runs without a socket,
// and the log says why.
func (s *server) openSocket(ctx context.Context, handler http.Handler) *operatorSocket {
	path := s.settings.socketPath()
	if s.settings.postgresURL() != "" {
		return nil
	}
	listener, info, err := listenUnix(ctx, path)
	if err != nil {
		s.log.Warn("the operator's socket cannot be opened: use ADMIN_TOKEN for the operator's commands", "path", path, "error", err)
		return nil
	}
	return &operatorSocket{path, listener, info, &http.Server{
		Handler: handler, MaxHeaderBytes: maxHeader - 4096,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: s.settings.IdleTimeout,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}}
}

// listenUnix listens on a socket that only its owner may open, whatever the
// umask. It removes an old socket at the path, but no other file.
func listenUnix(ctx context.Context, path string) (*net.UnixListener, fs.FileInfo, error) {
	if len(path) > maxSocketPath {
		return nil, nil, fmt.Errorf("the path of a socket must have at most %d bytes; got %d", maxSocketPath, len(path))
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, nil, errors.New("the existing file is not a socket: remove it")
	default:
		if err := os.Remove(path); err != nil {
			return nil, nil, err
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		// Linux creates the file with the mode of the socket, so other users
		// cannot open it before the chmod below, which other systems need.
		return conn.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	made, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, nil, err
	}
	listener := made.(*net.UnixListener)
	listener.SetUnlinkOnClose(false) // see close
	err = os.Chmod(path, 0o600)
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close(), os.Remove(path))
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close(), os.Remove(path))
	}
	return listener, info, nil
}

// serve accepts connections until the socket is shut down.
func (s *operatorSocket) serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// shutdown removes the socket, lets requests under way finish until ctx ends,
// and cuts the others.
func (s *operatorSocket) shutdown(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.remove()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// remove removes the socket from the folder, unless it belongs to another
// server, because the folder may have been moved.
func (s *operatorSocket) remove() {
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.info) {
		_ = os.Remove(s.path) // if it fails, the next start removes it
	}
}
