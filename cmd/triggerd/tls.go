package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// certificateCheck is the minimum time between two checks of the
	// certificate files.
	certificateCheck = 2 * time.Second
	// maxStreams bounds the requests under way on one connection of HTTP/2.
	maxStreams = 128
	// maxUnread bounds the bytes of unread bodies that a connection of HTTP/2
	// may send.
	maxUnread = 256 << 10
)

// certReloader holds a certificate and its key, and reads them again when their
// files have changed. Invalid files leave the pair unchanged.
type certReloader struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu     sync.Mutex
	pair   *tls.Certificate
	files  [2]os.FileInfo // as they were last read; nil: a file was missing
	looked time.Time      // last check of the files
}

// newCertReloader reads a certificate and its key.
func newCertReloader(set *listenSettings, log *slog.Logger, now func() time.Time) (*certReloader, error) {
	k := &certReloader{certFile: set.TLSCert, keyFile: set.TLSKey, log: log, now: now, looked: now()}
	k.files = k.look()
	pair, err := k.read()
	if err != nil {
		return nil, err
	}
	k.use(pair)
	return k, nil
}

// config returns the TLS configuration of the server.
func (k *certReloader) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}
}

// get implements GetCertificate of [tls.Config].
func (k *certReloader) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if since := now.Sub(k.looked); since >= 0 && since < certificateCheck {
		return k.pair, nil
	}
	k.looked = now
	files := k.look()
	if sameFile(files[0], k.files[0]) && sameFile(files[1], k.files[1]) {
		return k.pair, nil
	}
	k.files = files // before they are read, so that a later change is seen
	pair, err := k.read()
	if err != nil {
		k.log.Error("the new certificate cannot be used, and the previous one is kept", "error", err)
		return k.pair, nil
	}
	k.log.Info("the certificate was read again", "expires", pair.Leaf.NotAfter)
	k.use(pair)
	return k.pair, nil
}

// use makes a pair the current one.
func (k *certReloader) use(pair *tls.Certificate) {
	if now := k.now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		k.log.Warn("the certificate is not valid now: clients will refuse it",
			"from", pair.Leaf.NotBefore, "to", pair.Leaf.NotAfter)
	}
	k.pair = pair
}

// look returns the current state of the files.
func (k *certReloader) look() (files [2]os.FileInfo) {
	for i, path := range []string{k.certFile, k.keyFile} {
		if info, err := os.Stat(path); err == nil {
			files[i] = info
		}
	}
	return files
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (k *certReloader) read() (*tls.Certificate, error) {
	chain, err := os.ReadFile(k.certFile)
	if err != nil {
		return nil, fmt.Errorf("TLS_CERT: %w", unreadable(k.certFile, err))
	}
	key, err := os.ReadFile(k.keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS_KEY: %w", unreadable(k.keyFile, err))
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("TLS_CERT (%s) and TLS_KEY (%s) cannot be used together: %s", k.certFile, k.keyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &pair, nil
}

// authorities returns the certificates that a client trusts: those of the
// system and those in a file. Without a file it returns nil, which means those
// of the system.
func authorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("TRIGGERD_CA: %w", unreadable(path, err))
	}
	pool, err := x509.SystemCertPool()
	if err != nil { // an image may have none
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TRIGGERD_CA: the file %s has no certificate in PEM", path)
	}
	return pool, nil
}

// checkTLS returns an error if only one of certificate and key is set.
func (s *listenSettings) checkTLS() error {
	switch {
	case s.TLSCert != "" && s.TLSKey == "":
		return errors.New("TLS_CERT is set and TLS_KEY is not: set both to serve HTTPS, or neither")
	case s.TLSCert == "" && s.TLSKey != "":
		return errors.New("TLS_KEY is set and TLS_CERT is not: set both to serve HTTPS, or neither")
	}
	return nil
}
