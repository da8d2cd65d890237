// Package trigger defines the types that all other packages use, and every
// decision that needs no I/O.
//
// An [Organization] has [APIKey]s and [Webhook]s. It posts an [Event]. The
// organization's [Subscribers] say which webhooks match the event. For each of
// them a [Delivery] is made: the event is owed to the webhook until the delivery
// ends. An event that no webhook matches goes to the inbox, which is webhook 0.
// Each try of a delivery over HTTP makes an [Attempt], and [Delivery.After]
// decides what follows: success, a retry by a [Schedule], or failure.
//
// The package imports only the standard library. It reads no clock and does no
// I/O: times and random numbers are parameters.
package trigger

// InboxID is the webhook id of the inbox, which gets the events that no webhook
// matches. Real webhooks have ids from 1.
const InboxID int64 = 0

// Limits of the API, in bytes unless another unit is named. A value of exactly
// the limit is accepted.
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

	MaxTombstones = 1000 // deleted webhooks kept for explanations in one organization; older ones are removed
	MaxVersions   = 100  // changes of state and filter kept for explanations of one webhook
)

// Buckets is the number of buckets that organizations are hashed into.
const Buckets = 256

// Bucket returns the shard of an organization's events, dedup ids, deliveries
// and attempts: 0..255, a hash of its id. It is the first column of every key of
// these tables, so that the schema can be distributed. The hash (the finalizer
// of splitmix64) must never change, because it is stored.
func Bucket(orgID int64) int16 {
	h := uint64(orgID) + 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return int16((h ^ h>>31) % Buckets)
}
