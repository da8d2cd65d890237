package trigger

import (
	"cmp"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// APIKey is a key of an organization as it is stored: its hash, never the key.
type APIKey struct {
	ID           int64
	Organization Organization
	Hash         [32]byte // SHA-256 of the key
	Prefix       string   // the first characters of the key, which identify it to people
	Name         string   // for people; may be empty
	Scopes       Scopes
	Networks     []netip.Prefix // where requests may come from; empty: anywhere
	CreatedAt    time.Time
	ExpiresAt    time.Time // zero: never
	LastUsedAt   time.Time // to the minute; zero: never
}

// Limits of keys.
const (
	MaxKeys     = 100 // of one organization, without keys that ended
	MaxNetworks = 50  // of one key

	MaxEndedKeys = 1000 // of one organization; older ones are removed
)

// Check returns an Invalid error if the name, scopes or networks are not valid.
func (k *APIKey) Check() error {
	switch {
	case k.Name != "" && checkText("name", k.Name, MaxName) != nil:
		return checkText("name", k.Name, MaxName)
	case k.Scopes == 0 || k.Scopes&^AllScopes != 0:
		return Errorf(Invalid, "scopes must have one or more of ingest, read and manage").At("#/scopes")
	case len(k.Networks) > MaxNetworks:
		return Errorf(Invalid, "networks must have at most %d elements; got %d", MaxNetworks, len(k.Networks)).At("#/networks")
	}
	return nil
}

// Allows reports whether the key may be used from an address.
func (k *APIKey) Allows(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return len(k.Networks) == 0 || slices.ContainsFunc(k.Networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// MayMake returns an error unless the owner of this key may create the other:
// it must have no other scopes or networks and must end no later. The error is
// Forbidden for the scopes, and Invalid, with a pointer, for the rest.
func (k *APIKey) MayMake(other *APIKey) error {
	if lacking := other.Scopes &^ k.Scopes; lacking != 0 {
		e := Errorf(Forbidden, "scopes must not include %s: this key has only %s", lacking, k.Scopes)
		e.Code = "missing_scope"
		return e
	}
	if err := k.mayComeFrom(other.Networks); err != nil {
		return err
	}
	switch {
	case k.ExpiresAt.IsZero():
		return nil
	case other.ExpiresAt.IsZero():
		return Errorf(Invalid, "expires_at must not be after this key ends, at %s; got never", AppendTime(nil, k.ExpiresAt)).At("#/expires_at")
	case other.ExpiresAt.After(k.ExpiresAt):
		return Errorf(Invalid, "expires_at must not be after this key ends, at %s; got %s",
			AppendTime(nil, k.ExpiresAt), AppendTime(nil, other.ExpiresAt)).At("#/expires_at")
	}
	return nil
}

// mayComeFrom returns an error unless each of the networks lies within one of
// the key's.
func (k *APIKey) mayComeFrom(networks []netip.Prefix) error {
	switch {
	case len(k.Networks) == 0:
		return nil
	case len(networks) == 0:
		return Errorf(Invalid, "networks must lie within the networks of this key, %s; got an empty list, which allows every address", k.Networks).At("#/networks")
	}
	for i, inner := range networks {
		if !slices.ContainsFunc(k.Networks, func(outer netip.Prefix) bool {
			return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
		}) {
			return Errorf(Invalid, "networks must lie within the networks of this key, %s; got %s", k.Networks, inner).
				At("#/networks/" + strconv.Itoa(i))
		}
	}
	return nil
}

// ParseNetwork reads a network, for example 10.0.0.0/8, or a single address.
// It ignores spaces around it. Other texts are Invalid.
func ParseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, Errorf(Invalid, "%.60q is not a network: want a CIDR, for example 10.0.0.0/8, or an address", s)
	}
	return p.Masked(), nil
}

// Expired reports whether the key's ExpiresAt has passed.
func (k *APIKey) Expired(now time.Time) bool { return !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now) }

// Scopes are what a key may do.
type Scopes uint8

// The scopes.
const (
	ScopeIngest Scopes = 1 << iota // post events
	ScopeRead                      // read everything, and take events from the inbox
	ScopeManage                    // webhooks, keys, event types, replays

	AllScopes = ScopeIngest | ScopeRead | ScopeManage
)

// scopeNames returns the names of the scopes, in the order of their bits.
func scopeNames() []string { return []string{"ingest", "read", "manage"} }

// ParseScopes reads scopes by their names. An unknown name is Invalid.
func ParseScopes(names []string) (s Scopes, err error) {
	for _, name := range names {
		i := slices.Index(scopeNames(), name)
		if i < 0 {
			return 0, Errorf(Invalid, "a scope must be ingest, read or manage; got %.60q", name)
		}
		s |= 1 << i
	}
	return s, nil
}

// Names returns the names of the scopes, in a fixed order.
func (s Scopes) Names() []string {
	names := []string{}
	for i, name := range scopeNames() {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names, separated by commas, for messages.
func (s Scopes) String() string { return cmp.Or(strings.Join(s.Names(), ", "), "none") }

const (
	keyPrefix   = "sk_"
	keyDigits   = 43 // 256 bits in base 62
	keyChecksum = 6  // a CRC-32 in base 62
	keyLength   = len(keyPrefix) + keyDigits + keyChecksum
)

// NewAPIKey returns a key of 256 random bits: "sk_", 43 base-62 digits, and 6
// digits of checksum by which scanners and [HashAPIKey] recognize a key.
func NewAPIKey(random [32]byte) string {
	digits := new(big.Int).SetBytes(random[:]).Text(62)
	digits = strings.Repeat("0", keyDigits-len(digits)) + digits
	sum := checksum(digits)
	return keyPrefix + digits + string(sum[:])
}

// HashAPIKey returns the hash by which a key is stored and found. ok is false
// if the text cannot be a key and need not be looked up.
func HashAPIKey(key string) (hash [32]byte, ok bool) {
	if len(key) != keyLength || key[:len(keyPrefix)] != keyPrefix {
		return hash, false
	}
	digits, sum := key[len(keyPrefix):keyLength-keyChecksum], key[keyLength-keyChecksum:]
	if want := checksum(digits); string(want[:]) != sum {
		return hash, false
	}
	return sha256.Sum256([]byte(key)), true
}

// KeyPrefix returns the 9 characters of a key that may be shown again.
func KeyPrefix(key string) string { return key[:min(len(key), 9)] }

// checksum returns the CRC-32 of the digits in base 62, as big.Int writes it.
// It runs for each request and does not allocate.
func checksum(digits string) (sum [keyChecksum]byte) {
	const base62 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	n := crc32.ChecksumIEEE([]byte(digits))
	for i := len(sum) - 1; i >= 0; i-- {
		sum[i] = base62[n%62]
		n /= 62
	}
	return sum
}
