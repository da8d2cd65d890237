package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// certified is a CA of a test, and the files of a certificate that it made.
type certified struct {
	ca, cert, key string // paths
	pool          *x509.CertPool
	parent        *x509.Certificate
	signer        *ecdsa.PrivateKey
}

// newCertified makes a CA, and a certificate for 127.0.0.1 with serial number 1.
func newCertified(t *testing.T) *certified {
	t.Helper()
	dir := t.TempDir()
	c := &certified{ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), pool: x509.NewCertPool()}
	c.signer = newSigner(t)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(100), Subject: pkix.Name{CommonName: "CA of a test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &c.signer.PublicKey, c.signer)
	if err != nil {
		t.Fatal(err)
	}
	if c.parent, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	c.pool.AddCert(c.parent)
	replace(t, c.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	cert, key := c.issue(t, 1, time.Now().Add(time.Hour))
	replace(t, c.cert, cert)
	replace(t, c.key, key)
	return c
}

func newSigner(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate with a serial number, and its key.
func (c *certified) issue(t *testing.T, serial int64, until time.Time) (cert, key []byte) {
	t.Helper()
	private := newSigner(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: until.Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, c.parent, &private.PublicKey, c.signer)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: inner})
}

// replace puts another file into the place of one, at once.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// serial is the serial number of the certificate that a server shows.
func (c *certified) serial(t *testing.T, address string) int64 {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: c.pool}}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// A server with a certificate speaks HTTPS, in HTTP/1.1 and HTTP/2, and all that
// asks servers can ask it.
func TestTLS(t *testing.T) {
	t.Parallel()
	c, db := newCertified(t), storetest.SQLite(t)
	s := startServer(t, db, func(set *settings) { set.TLSCert, set.TLSKey = c.cert, c.key })
	address := s.server.listener.Addr().String()
	s.URL = "https://" + address
	for proto, config := range map[string]*tls.Config{
		"HTTP/2.0": {RootCAs: c.pool}, "HTTP/1.1": {RootCAs: c.pool, NextProtos: []string{"http/1.1"}, MaxVersion: tls.VersionTLS12},
	} {
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: proto == "HTTP/2.0"}
		s.client.Transport = transport
		key := s.newKey(t, "free")
		s.postEvent(t, key, "t", "", "1")
		res, err := s.client.Get(s.URL + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Proto != proto {
			t.Errorf("it speaks %s, want %s", res.Proto, proto)
		}
		transport.CloseIdleConnections()
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{RootCAs: c.pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("it takes TLS 1.1")
	}
	env := map[string]string{"TRIGGERD_URL": s.URL, "ADMIN_TOKEN": s.operatorToken(t)}
	runCLI(t.Context(), env, nil, "org", "list").failsWith(t, "is not trusted: x509: certificate signed by unknown authority", "set TRIGGERD_CA")
	env["TRIGGERD_CA"] = c.ca
	made := runCLI(t.Context(), env, nil, "org", "create", "X", "--only-key")
	if made.err != nil {
		t.Fatal(made.err)
	}
	if got := runCLI(t.Context(), map[string]string{}, nil, "me", "--url", s.URL, "--ca", c.ca, "--key", strings.TrimSpace(made.out)); got.err != nil || !strings.Contains(got.out, "X") {
		t.Errorf("%+v", got)
	}
	env["TRIGGERD_CA"] = c.key
	runCLI(t.Context(), env, nil, "org", "list").failsWith(t, "TRIGGERD_CA: the file "+c.key+" has no certificate in PEM")
	env["TRIGGERD_CA"] = c.ca + ".none"
	runCLI(t.Context(), env, nil, "org", "list").failsWith(t, "TRIGGERD_CA: the file "+c.ca+".none cannot be read: no such file")
	said, err := runProgram(t.Context(), map[string]string{"LISTEN": address, "TLS_CERT": c.cert, "TLS_KEY": c.key}, "health")
	if err != nil || said != s.URL+"/readyz: ok\n" {
		t.Errorf("%q, %v", said, err)
	}
	cert, key := c.issue(t, 2, time.Now().Add(time.Hour))
	replace(t, c.cert, cert)
	replace(t, c.key, key)
	db.Clock.Advance(certificateCheck)
	if n := c.serial(t, address); n != 2 {
		t.Errorf("the certificate has the serial number %d, want that of the new one", n)
	}
}

// What cannot be used leaves the pair as it was, and is told once.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	c, log, now := newCertified(t), &bytes.Buffer{}, time.Now()
	k, err := newCertReloader(&listenSettings{TLSCert: c.cert, TLSKey: c.key}, slog.New(slog.NewTextHandler(log, nil)), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	second, secondKey := c.issue(t, 2, now.Add(time.Hour))
	third, thirdKey := c.issue(t, 3, now.Add(-time.Minute))
	for _, step := range []struct {
		name   string
		do     func()
		later  time.Duration
		serial int64
		logs   string // one line, or none
	}{
		{"nothing", func() {}, certificateCheck, 1, ""},
		{"another certificate", func() { replace(t, c.cert, second) }, certificateCheck, 1, "the previous one is kept"},
		{"the same", func() {}, certificateCheck, 1, ""},
		{"its key, too early to look", func() { replace(t, c.key, secondKey) }, certificateCheck - 1, 1, ""},
		{"and now", func() {}, 1, 2, "was read again"},
		{"no PEM", func() { replace(t, c.cert, []byte("hidden")) }, certificateCheck, 2, "the previous one is kept"},
		{"no file", func() { _ = os.Remove(c.cert) }, certificateCheck, 2, "the previous one is kept"},
		{"still none", func() {}, certificateCheck, 2, ""},
		{"the same again", func() { replace(t, c.cert, second) }, certificateCheck, 2, "was read again"},
		{"an expired one", func() { replace(t, c.cert, third); replace(t, c.key, thirdKey) }, certificateCheck, 3, "is not valid now"},
		{"the clock goes back", func() { replace(t, c.cert, second); replace(t, c.key, secondKey) }, -time.Hour, 2, "was read again"},
	} {
		log.Reset()
		step.do()
		now = now.Add(step.later)
		for range 3 {
			pair, err := k.get(nil)
			if err != nil || pair.Leaf.SerialNumber.Int64() != step.serial {
				t.Errorf("%s: serial %v, %v, want %d", step.name, pair.Leaf.SerialNumber, err, step.serial)
			}
		}
		lines := strings.Count(log.String(), "\n")
		if step.serial == 3 {
			lines-- // that it was read, too
		}
		if !strings.Contains(log.String(), step.logs) || (lines == 1) != (step.logs != "") || strings.Contains(log.String(), "hidden") {
			t.Errorf("%s: the log has %s, want one line with %q", step.name, log, step.logs)
		}
	}
}

func TestTLSStartErrors(t *testing.T) {
	t.Parallel()
	c, other := newCertified(t), newCertified(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, tt := range []struct{ cert, key, want string }{
		{c.cert, "", "TLS_CERT is set and TLS_KEY is not: set both to serve HTTPS, or neither"},
		{"", c.key, "TLS_KEY is set and TLS_CERT is not: set both to serve HTTPS, or neither"},
		{c.cert, other.key, "TLS_CERT (" + c.cert + ") and TLS_KEY (" + other.key + ") cannot be used together: private key does not match public key"},
		{c.cert + ".none", c.key, "TLS_CERT: the file " + c.cert + ".none cannot be read: no such file or directory"},
		{c.cert, filepath.Dir(c.key), "TLS_KEY: the file " + filepath.Dir(c.key) + " cannot be read: is a directory"},
		{c.key, c.key, "cannot be used together: failed to find certificate PEM data"},
		{c.cert, c.cert, "cannot be used together: found a certificate rather than a key"},
	} {
		env := map[string]string{"PORT": "0", "DATA_DIR": t.TempDir(), "TLS_CERT": tt.cert, "TLS_KEY": tt.key}
		if _, err := runProgram(ctx, env, "serve"); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want %s", err, tt.want)
		}
	}
	if _, err := runProgram(ctx, map[string]string{"TLS_CERT": c.cert}, "health"); err == nil || !strings.Contains(err.Error(), "TLS_KEY is not") {
		t.Errorf("health: error %v", err)
	}
}

// A connection of HTTP/2 has a bound of requests under way, which the server
// tells in its first frame (RFC 9113, section 6.5).
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	c := newCertified(t)
	s := startServer(t, storetest.SQLite(t), func(set *settings) { set.TLSCert, set.TLSKey = c.cert, c.key })
	conn, err := tls.Dial("tcp", s.server.listener.Addr().String(), &tls.Config{RootCAs: c.pool, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 9) // length, type, flags, stream
	if _, err := io.ReadFull(conn, head); err != nil || head[3] != 4 {
		t.Fatalf("the first frame is %v: %v", head, err)
	}
	frame := make([]byte, int(head[1])<<8+int(head[2]))
	if _, err := io.ReadFull(conn, frame); err != nil {
		t.Fatal(err)
	}
	streams := uint32(0)
	for ; len(frame) >= 6; frame = frame[6:] {
		if binary.BigEndian.Uint16(frame) == 3 {
			streams = binary.BigEndian.Uint32(frame[2:])
		}
	}
	if streams != maxStreams {
		t.Errorf("a connection may have %d streams, want %d", streams, maxStreams)
	}
}
