// Package trigger is the vocabulary of the server: the nouns that every other
// package speaks in, and every decision that needs no I/O.
//
// An [Organization] holds [APIKey]s and [Webhook]s. It posts an [Event]. The
// organization's [Subscribers] say which webhooks the event is owed to; each
// such debt is a [Delivery]. A webhook that matches nothing leaves the event
// to the inbox, which is webhook 0. Trying a delivery over HTTP makes an
// [Attempt], and [Delivery.After] decides what follows from it: done, tried
// again by a [Schedule], or failed for good.
//
// The package imports the standard library alone. It reads no clock and does
// no I/O: times and random numbers are parameters.
package trigger

// InboxID is the webhook id of the inbox, to which an event is owed that no
// webhook matches. Real webhooks have ids from 1.
const InboxID int64 = 0

// Limits of the API, in bytes unless another unit is named. What is larger is
// refused; what is as large passes.
const (
	MaxName     = 255 // organization name
	MaxType     = 255 // event type
	MaxDedupID  = 255
	MaxFilter   = 255 // filter pattern
	MaxStars    = 8   // stars in one filter pattern
	MaxPatterns = 20  // filter patterns of one webhook
	MaxURL      = 2048
	MaxWebhooks = 50   // active and paused webhooks of one organization
	MaxGone     = 1000 // gone webhooks of one organization; older ones are deleted

	MaxTombstones = 1000 // deleted webhooks that one organization keeps for explanations; older ones are removed
	MaxVersions   = 100  // changes of state and filter that one webhook keeps, likewise
)

// Buckets is the number of buckets that organizations are hashed into.
const Buckets = 256

// Bucket is the shard an organization's events, dedup ids, deliveries and
// attempts live in: 0..255, a hash of its id. It is the first column of every
// key on these tables, so that the same schema can run distributed. The hash
// (the finalizer of splitmix64) must never change: it is stored.
func Bucket(orgID int64) int16 {
	h := uint64(orgID) + 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return int16((h ^ h>>31) % Buckets)
}
