package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// listenSettings are the address of a server. Another command needs only these
// to reach a server on this machine.
type listenSettings struct {
	Listen string `help:"Address to listen on, host:port. Default: 127.0.0.1 and the port below."`
	Port   int    `help:"Port to listen on if --listen is not set." default:"5001"`

	TLSCert string `name:"tls-cert" help:"Certificate and its chain, a PEM file. If set, the server speaks HTTPS. The file is read again when it changes." type:"path"`
	TLSKey  string `name:"tls-key" help:"Private key of the certificate, a PEM file." type:"path"`
}

// check returns an error for an invalid address.
func (s *listenSettings) check() error {
	if s.Port < 0 || s.Port > 65535 {
		return fmt.Errorf("PORT must be from 0 to 65535; got %d", s.Port)
	}
	_, port, err := net.SplitHostPort(s.listen())
	if err != nil {
		return fmt.Errorf("LISTEN must be host:port, for example 127.0.0.1:5001: %w", err)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("LISTEN must be host:port, for example 127.0.0.1:5001, with a port from 0 to 65535; got the port %q", port)
	}
	return s.checkTLS()
}

func (s *listenSettings) listen() string {
	if s.Listen != "" {
		return s.Listen
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
}

// onLoopback reports whether the address is loopback by its text, because a
// name other than localhost may resolve to any address.
func (s *listenSettings) onLoopback() bool {
	host, _, _ := net.SplitHostPort(s.listen())
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// url returns the URL of the server from this machine.
func (s *listenSettings) url() (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(s.listen())
	if port == "" || port == "0" {
		return "", fmt.Errorf("the server listens on %s, where the system chooses the port: set LISTEN or PORT to its actual port", s.listen())
	}
	switch addr, err := netip.ParseAddr(host); {
	case host == "" || err == nil && addr.Unmap() == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && addr.WithZone("") == netip.IPv6Unspecified():
		host = "::1"
	}
	scheme := "http"
	if s.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}
