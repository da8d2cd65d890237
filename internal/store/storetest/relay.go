package storetest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Relay listens at an address, 127.0.0.1:0 for any port, and connects each
// client to a server until the end of the test. It returns the address of the
// listener. first may be nil; else it may read and write before bytes are
// copied, and its error ends the connection.
func Relay(t testing.TB, listen, to string, first func(client, server net.Conn) error) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { relay(ctx, client, to, first) })
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// relay copies between a client and a server until one of them, or ctx, ends.
func relay(ctx context.Context, client net.Conn, to string, first func(client, server net.Conn) error) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	if first != nil && first(client, server) != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}
