package main

// clientCommands are the commands that use the API /v1 of a server. Each noun
// has a file; cli_session.go has the shared parts. Commands tagged with
// wants:"output" do nothing without a standard output, see checkOutput.
type clientCommands struct {
	Me       meCommand        `cmd:"" help:"Show the organization of the key, or change its settings."`
	Send     sendCommand      `cmd:"" help:"Post one or many events."`
	Listen   listenCommand    `cmd:"" help:"Forward new events to a receiver on this machine, without a tunnel."`
	Event    eventCommands    `cmd:"" help:"Events: find them, and see their deliveries."`
	Type     typeCommands     `cmd:"" help:"Types of events, with their schemas."`
	Webhook  webhookCommands  `cmd:"" help:"Webhooks: the receivers of events."`
	Inbox    inboxCommands    `cmd:"" help:"The inbox: events to pull."`
	Delivery deliveryCommands `cmd:"" help:"Open and failed deliveries, and attempts."`
	Replay   replayCommands   `cmd:"" help:"Replays: deliver past events again."`
	Key      keyCommands      `cmd:"" help:"API keys of the organization."`
	Org      orgCommands      `cmd:"" help:"Organizations, for the operator."`
}

type eventCommands struct {
	List     eventList     `cmd:"" help:"List events, the newest first."`
	Show     eventShow     `cmd:"" help:"Show an event, its payload and its deliveries."`
	Why      eventWhy      `cmd:"" help:"Explain for each webhook why it got an event, or did not."`
	Attempts eventAttempts `cmd:"" help:"List the attempts to deliver an event."`
	Resend   eventResend   `cmd:"" help:"Deliver an event to a webhook again."`
	Delete   eventDelete   `cmd:"" help:"Delete an event; this cancels a scheduled event."`
	Samples  eventSamples  `cmd:"" help:"Show the newest events as webhooks get them."`
}

// Help returns the text above the flags, as for the groups below.
func (*eventCommands) Help() string {
	return examples(
		"triggerd event list --type 'user.*' --status failed --since 2h",
		"triggerd event list --webhook 0 --limit 0       # all events of the inbox",
		"triggerd event why 01a201d9-e350-7ff3-8000-2e533c0c7570",
		"triggerd event resend 01a201d9-e350-7ff3-8000-2e533c0c7570 1",
	)
}

type typeCommands struct {
	List   typeList   `cmd:"" help:"List the types."`
	Show   typeShow   `cmd:"" help:"Show a type and its schema."`
	Put    typePut    `cmd:"" help:"Create a type, or replace it completely."`
	Delete typeDelete `cmd:"" help:"Delete a type; its events are still accepted, without a schema."`
}

// Help returns the text above the flags.
func (*typeCommands) Help() string {
	return examples(
		"triggerd type put user.created --schema @user-created.json --mode reject",
		`triggerd type put user.created --schema '{"required":["name"]}'`,
	)
}

type webhookCommands struct {
	Create       webhookCreate `cmd:"" help:"Create a webhook for the events from now on."`
	List         webhookList   `cmd:"" help:"List the webhooks."`
	Show         webhookShow   `cmd:"" help:"Show a webhook."`
	Set          webhookSet    `cmd:"" help:"Change a webhook."`
	Delete       webhookDelete `cmd:"" help:"Delete a webhook; its open deliveries end as failed."`
	Pause        webhookPause  `cmd:"" help:"Pause a webhook; its deliveries wait."`
	Resume       webhookResume `cmd:"" help:"Resume a webhook, also one whose receiver answered 410; waiting deliveries are sent."`
	RotateSecret webhookRotate `cmd:"" help:"Replace the secret of a webhook."`
	Test         webhookTest   `cmd:"" help:"Send one request to a webhook, and show the result."`
	DryRun       webhookDryRun `cmd:"" help:"Show which past events a filter matches."`
}

// Help returns the text above the flags.
func (*webhookCommands) Help() string {
	return examples(
		"triggerd webhook create https://example.com/hook --type 'user.*' --type order.paid",
		"triggerd webhook set 1 --timeout 5s --schedule 5s,1m,10m --reset rate",
		"triggerd webhook test 1",
		"triggerd webhook dry-run --webhook 1 --type 'order.*'   # before you set it",
	)
}

type inboxCommands struct {
	List    inboxList    `cmd:"" help:"List open events, the oldest first."`
	Claim   inboxClaim   `cmd:"" wants:"output" help:"Claim events for a lease, during which no other consumer gets them."`
	Ack     inboxAck     `cmd:"" help:"Acknowledge events of a claim."`
	Release inboxRelease `cmd:"" help:"Release events of a claim."`
	Extend  inboxExtend  `cmd:"" help:"Extend the lease of events of a claim."`
	Stream  inboxStream  `cmd:"" wants:"output" help:"Show open events, and then new ones, without claiming them."`
	Consume inboxConsume `cmd:"" wants:"output" help:"Write events as lines of JSON, and acknowledge them when they are written."`
}

// Help returns the text above the flags.
func (*inboxCommands) Help() string {
	return examples(
		"triggerd inbox claim --limit 1 --wait 30s --lease 5m",
		"triggerd inbox ack CLAIM ID...",
		"triggerd inbox consume --drain >events.ndjson",
	)
}

type deliveryCommands struct {
	List     deliveryList     `cmd:"" help:"List open and failed deliveries, those of the newest event first."`
	Attempts deliveryAttempts `cmd:"" help:"List attempts, those of the newest event first."`
}

// Help returns the text above the flags.
func (*deliveryCommands) Help() string {
	return examples(
		"triggerd delivery list --status failed --webhook 1",
		"triggerd delivery attempts --outcome permanent --limit 100",
	)
}

type replayCommands struct {
	Create  replayCreate  `cmd:"" help:"Start a replay."`
	Preview replayPreview `cmd:"" help:"Show what a replay would deliver."`
	List    replayList    `cmd:"" help:"List the replays, the newest first."`
	Show    replayShow    `cmd:"" help:"Show a replay."`
	Pause   replayPause   `cmd:"" help:"Pause a replay."`
	Resume  replayResume  `cmd:"" help:"Resume a replay."`
	Cancel  replayCancel  `cmd:"" help:"Cancel a replay; its open deliveries are dropped."`
}

// Help returns the text above the flags.
func (*replayCommands) Help() string {
	return examples(
		"triggerd replay preview 1 --since 24h --status failed",
		"triggerd replay create 1 --since 24h --status failed --pace 10",
	)
}

type keyCommands struct {
	Create keyCreate `cmd:"" wants:"output" help:"Create a key."`
	List   keyList   `cmd:"" help:"List the valid keys."`
	Show   keyShow   `cmd:"" help:"Show a key, without the key itself."`
	Rotate keyRotate `cmd:"" wants:"output" help:"Create a key that replaces another, which expires after an overlap."`
	Revoke keyRevoke `cmd:"" help:"Revoke a key at once."`
}

// Help returns the text above the flags.
func (*keyCommands) Help() string {
	return examples(
		"triggerd key create --name importer --scope ingest --expires 90d",
		"export TRIGGERD_KEY=$(triggerd key rotate 1 --overlap 1h --only-key)",
	)
}

type orgCommands struct {
	Create  orgCreate  `cmd:"" wants:"output" help:"Create an organization and its first key."`
	List    orgList    `cmd:"" help:"List the organizations."`
	Show    orgShow    `cmd:"" help:"Show an organization."`
	Set     orgSet     `cmd:"" help:"Change an organization."`
	Suspend orgSuspend `cmd:"" help:"Suspend an organization; its requests are refused."`
	Resume  orgResume  `cmd:"" help:"End a suspension."`
	Delete  orgDelete  `cmd:"" help:"Erase an organization and all its data."`
	Key     orgKey     `cmd:"" wants:"output" help:"Create a key for an organization."`
}

// Help returns the text above the flags.
func (*orgCommands) Help() string {
	return "On the machine of a server with SQLite, these use the socket in its data folder, and no token. " +
		"For another server set TRIGGERD_URL and ADMIN_TOKEN.\n\n" + examples(
		"export TRIGGERD_KEY=$(triggerd org create Example --only-key)",
		"triggerd org set 1 --tier professional --reset rate-limit",
	)
}
