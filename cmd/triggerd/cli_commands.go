package main

// clientCommands speak to a server over its API /v1. One file has those about
// one noun; cli_session.go has what they share. Those that are tagged
// wants:"output" do nothing without a standard output, see checkOutput.
type clientCommands struct {
	Me       meCommand        `cmd:"" help:"Show whose key it is, or change what its organization does."`
	Send     sendCommand      `cmd:"" help:"Post an event, or many."`
	Listen   listenCommand    `cmd:"" help:"Forward new events to a receiver on this machine, without a tunnel."`
	Event    eventCommands    `cmd:"" help:"Events: find them, and see what became of them."`
	Type     typeCommands     `cmd:"" help:"Types of events, with schemas."`
	Webhook  webhookCommands  `cmd:"" help:"Webhooks: where events are delivered to."`
	Inbox    inboxCommands    `cmd:"" help:"The inbox: events to be fetched."`
	Delivery deliveryCommands `cmd:"" help:"Deliveries that are open or have failed, and attempts."`
	Replay   replayCommands   `cmd:"" help:"Replays: deliver events of the past again."`
	Key      keyCommands      `cmd:"" help:"API keys of the organization."`
	Org      orgCommands      `cmd:"" help:"Organizations, for the operator."`
}

type eventCommands struct {
	List     eventList     `cmd:"" help:"List events, the newest first."`
	Show     eventShow     `cmd:"" help:"Show an event, its payload, and what became of it."`
	Why      eventWhy      `cmd:"" help:"Say for each webhook why it got an event, or did not."`
	Attempts eventAttempts `cmd:"" help:"List the attempts to deliver an event."`
	Resend   eventResend   `cmd:"" help:"Deliver an event to a webhook again."`
	Delete   eventDelete   `cmd:"" help:"Delete an event; this cancels one that is scheduled."`
	Samples  eventSamples  `cmd:"" help:"Show the newest events as webhooks get them."`
}

// Help is what stands above the flags, as for the groups below.
func (*eventCommands) Help() string {
	return examples(
		"triggerd event list --type 'user.*' --status failed --since 2h",
		"triggerd event list --webhook 0 --limit 0       # all that the inbox was owed",
		"triggerd event why 01a201d9-e350-7ff3-8000-2e533c0c7570",
		"triggerd event resend 01a201d9-e350-7ff3-8000-2e533c0c7570 1",
	)
}

type typeCommands struct {
	List   typeList   `cmd:"" help:"List the types."`
	Show   typeShow   `cmd:"" help:"Show a type and its schema."`
	Put    typePut    `cmd:"" help:"Make a type, or replace all of it."`
	Delete typeDelete `cmd:"" help:"Delete a type; events of it are accepted as before."`
}

// Help is what stands above the flags.
func (*typeCommands) Help() string {
	return examples(
		"triggerd type put user.created --schema @user-created.json --mode reject",
		`triggerd type put user.created --schema '{"required":["name"]}'`,
	)
}

type webhookCommands struct {
	Create       webhookCreate `cmd:"" help:"Make a webhook for the events from now on."`
	List         webhookList   `cmd:"" help:"List the webhooks."`
	Show         webhookShow   `cmd:"" help:"Show a webhook."`
	Set          webhookSet    `cmd:"" help:"Change a webhook."`
	Delete       webhookDelete `cmd:"" help:"Delete a webhook; what it was still owed ends as failed."`
	Pause        webhookPause  `cmd:"" help:"Let what a webhook is owed wait."`
	Resume       webhookResume `cmd:"" help:"Deliver what has waited, and go on; also when its receiver answered 410."`
	RotateSecret webhookRotate `cmd:"" help:"Give a webhook another secret."`
	Test         webhookTest   `cmd:"" help:"Send one request to a webhook, and show what came of it."`
	DryRun       webhookDryRun `cmd:"" help:"Say which events of the past a filter matches."`
}

// Help is what stands above the flags.
func (*webhookCommands) Help() string {
	return examples(
		"triggerd webhook create https://example.com/hook --type 'user.*' --type order.paid",
		"triggerd webhook set 1 --timeout 5s --schedule 5s,1m,10m --reset rate",
		"triggerd webhook test 1",
		"triggerd webhook dry-run --webhook 1 --type 'order.*'   # before you set it",
	)
}

type inboxCommands struct {
	List    inboxList    `cmd:"" help:"List what is open, the oldest first."`
	Claim   inboxClaim   `cmd:"" wants:"output" help:"Take events for a while, in which nobody else gets them."`
	Ack     inboxAck     `cmd:"" help:"Say that events of a claim are done."`
	Release inboxRelease `cmd:"" help:"Give events of a claim back."`
	Extend  inboxExtend  `cmd:"" help:"Keep events of a claim for longer."`
	Stream  inboxStream  `cmd:"" wants:"output" help:"Show what is open, and then what comes in; takes nothing."`
	Consume inboxConsume `cmd:"" wants:"output" help:"Write events as lines of JSON, and acknowledge what is written."`
}

// Help is what stands above the flags.
func (*inboxCommands) Help() string {
	return examples(
		"triggerd inbox claim --limit 1 --wait 30s --lease 5m",
		"triggerd inbox ack CLAIM ID...",
		"triggerd inbox consume --drain >events.ndjson",
	)
}

type deliveryCommands struct {
	List     deliveryList     `cmd:"" help:"List what is open or has failed, that of the newest event first."`
	Attempts deliveryAttempts `cmd:"" help:"List attempts, those of the newest event first."`
}

// Help is what stands above the flags.
func (*deliveryCommands) Help() string {
	return examples(
		"triggerd delivery list --status failed --webhook 1",
		"triggerd delivery attempts --outcome permanent --limit 100",
	)
}

type replayCommands struct {
	Create  replayCreate  `cmd:"" help:"Begin a replay."`
	Preview replayPreview `cmd:"" help:"Say what a replay would deliver."`
	List    replayList    `cmd:"" help:"List the replays, the newest first."`
	Show    replayShow    `cmd:"" help:"Show a replay."`
	Pause   replayPause   `cmd:"" help:"Hold a replay."`
	Resume  replayResume  `cmd:"" help:"Let a replay go on."`
	Cancel  replayCancel  `cmd:"" help:"End a replay; what it still owes is not delivered."`
}

// Help is what stands above the flags.
func (*replayCommands) Help() string {
	return examples(
		"triggerd replay preview 1 --since 24h --status failed",
		"triggerd replay create 1 --since 24h --status failed --pace 10",
	)
}

type keyCommands struct {
	Create keyCreate `cmd:"" wants:"output" help:"Make a key."`
	List   keyList   `cmd:"" help:"List the keys that hold."`
	Show   keyShow   `cmd:"" help:"Show a key, without the key itself."`
	Rotate keyRotate `cmd:"" wants:"output" help:"Make a key that follows another, which ends after a while."`
	Revoke keyRevoke `cmd:"" help:"End a key at once."`
}

// Help is what stands above the flags.
func (*keyCommands) Help() string {
	return examples(
		"triggerd key create --name importer --scope ingest --expires 90d",
		"export TRIGGERD_KEY=$(triggerd key rotate 1 --overlap 1h --only-key)",
	)
}

type orgCommands struct {
	Create  orgCreate  `cmd:"" wants:"output" help:"Make an organization and its first key."`
	List    orgList    `cmd:"" help:"List the organizations."`
	Show    orgShow    `cmd:"" help:"Show an organization."`
	Set     orgSet     `cmd:"" help:"Change an organization."`
	Suspend orgSuspend `cmd:"" help:"Refuse all that an organization asks for."`
	Resume  orgResume  `cmd:"" help:"End a suspension."`
	Delete  orgDelete  `cmd:"" help:"Erase an organization and all that it has."`
	Key     orgKey     `cmd:"" wants:"output" help:"Make a key for an organization."`
}

// Help is what stands above the flags.
func (*orgCommands) Help() string {
	return "On the machine of a server with SQLite, these use the socket in its data folder, and no token. " +
		"For another server set TRIGGERD_URL and ADMIN_TOKEN.\n\n" + examples(
		"export TRIGGERD_KEY=$(triggerd org create Example --only-key)",
		"triggerd org set 1 --tier professional --reset rate-limit",
	)
}
