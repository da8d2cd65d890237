package deliver

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
)

// dnsServer is a resolver whose look-ups all go to a name server in memory:
// the n-th one (from 0) is answered by the n-th list of addresses, with spaces
// between, and what comes after the last by the last.
func dnsServer(answers ...string) *net.Resolver {
	questions := make(chan map[byte]int, 1)
	questions <- map[byte]int{}
	answer := func(kind byte) (addrs []netip.Addr) {
		asked := <-questions
		n := min(asked[kind], len(answers)-1) // a look-up asks once for each kind
		asked[kind]++
		questions <- asked
		for s := range strings.FieldsSeq(answers[n]) {
			if addr := netip.MustParseAddr(s); addr.Is4() == (kind == typeA) {
				addrs = append(addrs, addr)
			}
		}
		return addrs
	}
	return &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer func() { _ = server.Close() }()
				for serveDNS(server, answer) == nil {
				}
			}()
			return client, nil
		},
	}
}

// The types of records that hold addresses (RFC 1035, RFC 3596).
const (
	typeA    = 1
	typeAAAA = 28
)

// serveDNS answers one question by RFC 1035, section 4, in its form for TCP
// (a pipe keeps no packets apart): it copies the question, with answer records
// behind it that point back to the name.
func serveDNS(conn net.Conn, answer func(kind byte) []netip.Addr) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	query := make([]byte, int(size[0])<<8|int(size[1]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end+5]...)
	if kind := query[end+2]; query[end+1] == 0 && (kind == typeA || kind == typeAAAA) {
		for _, addr := range answer(kind) {
			reply[7]++
			data := addr.AsSlice()
			reply = append(reply, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, byte(len(data)))
			reply = append(reply, data...)
		}
	}
	_, err := conn.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
	return err
}
