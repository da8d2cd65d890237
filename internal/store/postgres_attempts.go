package store

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// The driver tries a host once for each of its addresses and, with
// sslmode=prefer or allow, each address with TLS and without. A failed connect
// has the errors of all attempts. They are grouped by host, because one attempt
// may explain another: a server without TLS refuses the attempt with TLS, and
// pg_hba.conf may refuse the one without.

// refusedTLS is the driver's text for a server that does not speak TLS.
const refusedTLS = "server refused TLS connection"

// attemptPattern matches the start of the driver's error for one attempt, for
// example "10.0.0.1:5432 (db1): dial error: ". Its groups are the port and the
// host as given.
var attemptPattern = regexp.MustCompile(`^(?:\S*:(\d+)|\S*) \(([^()]+)\): `)

// isStarting reports whether a failed connect may succeed later without a
// change. That must hold for each of the hosts.
func isStarting(err error) bool {
	byHost := map[string][]error{}
	for _, attempt := range attempts(err) {
		host := hostOf(attempt)
		if host == "" && !isStartingHost(leaves(attempt)) { // for example, no address was found for it
			return false
		}
		byHost[host] = append(byHost[host], leaves(attempt)...)
	}
	for _, causes := range byHost {
		if !isStartingHost(causes) {
			return false
		}
	}
	return len(byHost) > 0
}

// isStartingHost reports whether the failed attempts at one host may succeed
// later without a change. An answer of the server counts more than a refused or
// cut connection. Of two answers, the passing one counts.
func isStartingHost(causes []error) bool {
	said := slices.DeleteFunc(slices.Clone(causes), func(cause error) bool { return isNetwork(cause) || cause.Error() == refusedTLS })
	if len(said) > 0 {
		return slices.ContainsFunc(said, isPassing)
	}
	return slices.ContainsFunc(causes, isNetwork)
}

// attempts returns the errors of single attempts in err, or err itself without
// such errors.
func attempts(err error) (found []error) {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			found = append(found, attempts(part)...)
		}
		return found
	case interface{ Unwrap() error }:
		if inner := attempts(e.Unwrap()); len(inner) > 0 && hostOf(err) == "" {
			return inner
		}
	case nil:
		return nil
	}
	return []error{err}
}

// hostOf returns the host and port of an attempt's error, or "" for other
// errors.
func hostOf(attempt error) string {
	found := attemptPattern.FindStringSubmatch(attempt.Error())
	if found == nil {
		return ""
	}
	return found[2] + ":" + found[1]
}

// leaves returns the errors that wrap no other.
func leaves(err error) (found []error) {
	switch e := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			found = append(found, leaves(part)...)
		}
	case interface{ Unwrap() error }:
		if found = leaves(e.Unwrap()); found == nil {
			found = []error{err}
		}
	default:
		found = []error{err}
	}
	return found
}

// isPassing reports whether a single cause will pass without a change.
func isPassing(err error) bool {
	if e, ok := err.(*pgconn.PgError); ok {
		return slices.Contains([]string{
			"57P03",                   // cannot_connect_now: it is starting or stopping
			"57P01", "57P02", "57P05", // it is stopping, has crashed, or ended an idle session
			"53300",                   // too_many_connections
			"55P03", "40P01", "40001", // another transaction has the lock, or changes the same rows
			"57014", // query_canceled: it took too long
		}, e.Code)
	}
	return isNetwork(err) || errors.Is(err, errInRecovery) || errors.Is(err, pgconn.ErrReadOnlyConnection)
}

// isNetwork reports whether a single cause is a failure of the network, or of a
// server that does not answer. It says nothing about the database, and passes.
func isNetwork(err error) bool {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	return slices.ContainsFunc([]error{
		io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOENT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ETIMEDOUT,
	}, func(passing error) bool { return errors.Is(err, passing) })
}

// withoutRefusedTLS removes attempts from an error's text that failed because
// the server does not speak TLS, if another attempt at the same host says more.
func withoutRefusedTLS(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); !ok {
		return err
	}
	lines := strings.Split(err.Error(), "\n\t")
	told := map[string]bool{} // hosts with other errors
	isRefusal := func(line string) bool { return strings.HasSuffix(line, ": "+refusedTLS) }
	for _, line := range lines {
		if !isRefusal(line) {
			told[attemptPattern.FindString(line)] = true
		}
	}
	kept := slices.DeleteFunc(lines, func(line string) bool { return isRefusal(line) && told[attemptPattern.FindString(line)] })
	return &connectError{err, strings.Join(kept, "\n\t")}
}

// connectError is an error with another text.
type connectError struct {
	error
	text string
}

func (e *connectError) Error() string { return e.text }
func (e *connectError) Unwrap() error { return e.error }
