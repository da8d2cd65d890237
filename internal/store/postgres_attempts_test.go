package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// refusingPostgres listens as a PostgreSQL that refuses each connection with a
// SQLSTATE: withTLS for those with TLS, "" if it does not speak it, and plain for
// the others. It returns its address.
func refusingPostgres(t *testing.T, withTLS, plain string) (address string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go refuse(conn, config, withTLS, plain)
		}
	}()
	return listener.Addr().String()
}

// refuse answers one connection of refusingPostgres.
func refuse(conn net.Conn, config *tls.Config, withTLS, plain string) {
	defer conn.Close()
	code := plain
	for {
		startup, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage()
		if err != nil {
			return
		}
		if _, ok := startup.(*pgproto3.SSLRequest); !ok {
			break
		}
		answer := "N"
		if withTLS != "" {
			answer = "S"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
		if withTLS != "" {
			conn, code = tls.Server(conn, config), withTLS
		}
	}
	backend := pgproto3.NewBackend(conn, conn)
	backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: "refused"})
	_ = backend.Flush() // the client may have gone
}

// With sslmode=prefer and allow a host is tried with TLS and without. One of the
// attempts says whether it is to be waited for, and that one is told.
func TestStartingOverTLSAndWithout(t *testing.T) {
	t.Parallel()
	const starting, full, noEntry, noDatabase = "57P03", "53300", "28000", "3D000"
	for name, c := range map[string]struct {
		hosts [][2]string // what each says with TLS, and without
		mode  string
		waits bool
		said  string // a part of the error
	}{
		"prefer, no TLS, starting":           {[][2]string{{"", starting}}, "prefer", true, starting},
		"prefer, no TLS, full":               {[][2]string{{"", full}}, "prefer", true, full},
		"prefer, no TLS, no database":        {[][2]string{{"", noDatabase}}, "prefer", false, noDatabase},
		"prefer, no TLS, no entry":           {[][2]string{{"", noEntry}}, "prefer", false, noEntry},
		"prefer, starting":                   {[][2]string{{starting, starting}}, "prefer", true, starting},
		"prefer, full, TLS wanted":           {[][2]string{{full, noEntry}}, "prefer", true, full},
		"prefer, full, TLS not wanted":       {[][2]string{{noEntry, full}}, "prefer", true, full},
		"prefer, no entry":                   {[][2]string{{noEntry, noEntry}}, "prefer", false, noEntry},
		"allow, no TLS, starting":            {[][2]string{{"", starting}}, "allow", true, starting},
		"allow, no TLS, no entry":            {[][2]string{{"", noEntry}}, "allow", false, noEntry},
		"allow, full, TLS wanted":            {[][2]string{{full, noEntry}}, "allow", true, full},
		"require, no TLS":                    {[][2]string{{"", starting}}, "require", false, "server refused TLS connection"},
		"require, starting":                  {[][2]string{{starting, noEntry}}, "require", true, starting},
		"two hosts, no TLS, starting":        {[][2]string{{"", starting}, {"", starting}}, "prefer", true, starting},
		"two hosts, one with TLS":            {[][2]string{{"", starting}, {full, noEntry}}, "prefer", true, full},
		"two hosts, one without a database":  {[][2]string{{"", starting}, {"", noDatabase}}, "prefer", false, noDatabase},
		"two hosts, one that lets nobody in": {[][2]string{{"", noEntry}, {"", starting}}, "prefer", false, noEntry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hosts []string
			for _, host := range c.hosts {
				hosts = append(hosts, refusingPostgres(t, host[0], host[1]))
			}
			options := storetest.SQLite(t).Options
			options.PostgresURL = "postgres://app@" + strings.Join(hosts, ",") + "/app?sslmode=" + c.mode
			s, err := store.Open(t.Context(), options)
			if err == nil {
				s.Close()
				t.Fatal("it is open")
			}
			if errors.Is(err, store.ErrStarting) != c.waits || !strings.Contains(err.Error(), c.said) {
				t.Errorf("%v; to be waited for: %v, want %v and %q in it", err, errors.Is(err, store.ErrStarting), c.waits, c.said)
			}
			if c.mode != "require" && strings.Contains(err.Error(), "refused TLS") {
				t.Errorf("%v: the attempt that says nothing is told", err)
			}
		})
	}
}
