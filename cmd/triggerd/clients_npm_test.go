package main

import (
	"testing"

	"triggerd/internal/store/storetest"
)

// TestCloudEventsOfNPM has the CloudEvents SDK for JavaScript post events and
// receive them.
func TestCloudEventsOfNPM(t *testing.T) {
	t.Parallel()
	folder := needPackages(t, "cloudevents")
	s := startServer(t, storetest.SQLite(t), nil)
	runCommand(t, command(t, folder, s.clientEnv(t), "node", "session.mjs"))
}

// TestZapierApp runs the tests of the app for Zapier, in the libraries that
// Zapier runs it in, against a server.
func TestZapierApp(t *testing.T) {
	t.Parallel()
	folder := needPackages(t, "zapier")
	s := startServer(t, storetest.SQLite(t), nil)
	runCommand(t, command(t, folder, s.clientEnv(t), "npm", "test"))
}
