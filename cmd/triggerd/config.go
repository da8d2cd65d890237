package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// settings are the settings of a server, from flags and the environment.
type settings struct {
	listenSettings
	databaseSettings

	AdminToken string `help:"The operator's token, at least 32 characters, sent as Authorization: Bearer. If it is not set, the generated token is valid: see triggerd token. Listening beyond loopback requires it, PostgreSQL's token or open signup." secret:""`
	OpenSignup bool   `help:"Let anyone create an organization of tier free and its key, 20 an hour for each address."`
	PublicURL  string `name:"public-url" help:"Public URL of the server, for example https://triggerd.example.com. If set, signup on loopback is closed."`

	RateLimitRPM             int  `name:"rate-limit-rpm" help:"Events that an organization of tier free may post in a minute. 0: no limit." default:"1000"`
	RateLimitRPMProfessional *int `name:"rate-limit-rpm-professional" help:"The same for tier professional. Default: 10 times the limit of free."`
	RateLimitRPMEnterprise   *int `name:"rate-limit-rpm-enterprise" help:"The same for tier enterprise. Default: 100 times the limit of free."`
	DedupMaxSize             int  `help:"Dedup ids kept in memory." default:"10000"`
	MaxBodyBytes             int  `help:"Largest body of a request, in bytes." default:"1048576"`

	IdleTimeout time.Duration `help:"Time after which a client connection without a request is closed, 1s to 24h. Set it longer than the idle timeout of a load balancer in front." default:"620s"`

	AllowedTargets  []network     `help:"Networks that webhooks may reach in addition to the public internet, as CIDRs or addresses: 10.0.0.0/8,fd00::/8."`
	TrustedProxies  []network     `help:"Networks of reverse proxies whose X-Forwarded-For is trusted, as CIDRs or addresses."`
	RequireHTTPS    bool          `name:"require-https" help:"Refuse webhooks whose URL is not https."`
	RetrySchedule   schedule      `help:"Pauses before the retries of a delivery." default:"${retry_schedule}"`
	DeliveryTimeout time.Duration `help:"Time for one attempt, 1s to 30s." default:"15s"`
	PauseAfter      days          `help:"Pause a webhook whose attempts have all failed for this long, for example 5d or 36h. 0: never." default:"5d"`
	PauseAttempts   int           `help:"Pause it only after this many failed attempts." default:"10"`
	Retention       days          `help:"How long events are kept, for example 30d or 720h. At least the longest retry span and a day." default:"30d"`
	DedupRetention  days          `help:"How long dedup ids are kept. 0: forever." default:"0"`

	LogLevel string `help:"Lowest level that is logged: debug, info, warn or error." default:"info" enum:"debug,info,warn,error"`
	Dev      bool   `help:"Development mode: webhooks may reach loopback, the log is text, and a database that does not sync is accepted."`

	Descriptors int `kong:"-"` // bounds the connections; 0: the limit of the process
}

// schedule and days parse settings.
type schedule struct{ trigger.Schedule }

// UnmarshalText parses a list of durations.
func (s *schedule) UnmarshalText(text []byte) (err error) {
	s.Schedule, err = trigger.ParseSchedule(string(text))
	return err
}

type days struct{ time.Duration }

// UnmarshalText parses a number of days, for example 30d, 0, or a duration, for
// example 36h.
func (d *days) UnmarshalText(text []byte) (err error) {
	s := string(text)
	if number, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		d.Duration = time.Duration(n) * 24 * time.Hour
		if err != nil {
			return fmt.Errorf("must be a number of days, for example 30d; got %q", s)
		}
		return nil
	}
	d.Duration, err = time.ParseDuration(s)
	if err != nil || d.Duration < 0 {
		return fmt.Errorf("must be a duration, for example 30d or 720h; got %q", s)
	}
	return nil
}

// network is an element of a list of networks.
type network struct{ netip.Prefix }

// UnmarshalText parses a CIDR or an address. An IPv4 network may be written as
// an IPv4-mapped IPv6 one.
func (n *network) UnmarshalText(text []byte) (err error) {
	if p, err := netip.ParsePrefix(strings.TrimSpace(string(text))); err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		n.Prefix = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
		return nil
	}
	n.Prefix, err = trigger.ParseNetwork(string(text))
	return err
}

func prefixesOf(networks []network) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(networks))
	for i, network := range networks {
		prefixes[i] = network.Prefix
	}
	return prefixes
}

// check returns an error for invalid settings, which says what to do.
func (s *settings) check() error {
	for _, number := range []struct {
		name             string
		is, least, limit int
	}{
		{"DB_POOL_SIZE", s.DBPoolSize, 2, 1000},
		{"DEDUP_MAX_SIZE", s.DedupMaxSize, 1, 100_000_000},
		{"MAX_BODY_BYTES", s.MaxBodyBytes, 1 << 10, 32 << 20},
		{"PAUSE_ATTEMPTS", s.PauseAttempts, 1, 1_000_000},
		{"RATE_LIMIT_RPM", s.limits()[trigger.Free], 0, math.MaxInt32 / 100},
		{"RATE_LIMIT_RPM_PROFESSIONAL", s.limits()[trigger.Professional], 0, math.MaxInt32},
		{"RATE_LIMIT_RPM_ENTERPRISE", s.limits()[trigger.Enterprise], 0, math.MaxInt32},
	} {
		if number.is < number.least || number.is > number.limit {
			return fmt.Errorf("%s must be from %d to %d; got %d", number.name, number.least, number.limit, number.is)
		}
	}
	if s.DeliveryTimeout < time.Second || s.DeliveryTimeout > 30*time.Second {
		return fmt.Errorf("DELIVERY_TIMEOUT must be from 1s to 30s; got %v", s.DeliveryTimeout)
	}
	if s.IdleTimeout < time.Second || s.IdleTimeout > 24*time.Hour {
		return fmt.Errorf("IDLE_TIMEOUT must be from 1s to 24h, for example 620s; got %v", s.IdleTimeout)
	}
	if s.DedupRetention.Duration != 0 && s.DedupRetention.Duration < time.Hour {
		return fmt.Errorf("DEDUP_RETENTION must be 0, which means forever, or at least 1h; got %v", s.DedupRetention.Duration)
	}
	if least := s.RetrySchedule.Span() + 24*time.Hour; s.Retention.Duration < least {
		return fmt.Errorf("RETENTION must be at least %s, the longest span of RETRY_SCHEDULE and a day; got %v", least.Round(time.Minute), s.Retention.Duration)
	}
	if err := s.checkDatabase(); err != nil {
		return err
	}
	if strings.TrimSpace(s.AdminToken) != s.AdminToken {
		return errors.New("ADMIN_TOKEN must not begin or end with white space")
	}
	if err := checkPublicURL(s.PublicURL); err != nil {
		return err
	}
	return s.checkListen()
}

// checkPublicURL returns an error if the setting is not the URL of a server.
func checkPublicURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") {
		return errors.New("PUBLIC_URL must be an absolute http or https URL without user, query and fragment, for example https://triggerd.example.com")
	}
	return nil
}

// checkListen returns an error for an address that must not, or cannot, be
// served.
func (s *settings) checkListen() error {
	if err := s.listenSettings.check(); err != nil {
		return err
	}
	if s.onLoopback() {
		return nil
	}
	if s.AdminToken == "" && !s.OpenSignup && s.postgresURL() == "" { // PostgreSQL is checked for a token once it is open
		return s.errNobody()
	}
	if s.shortToken() {
		return fmt.Errorf("ADMIN_TOKEN must have at least %d characters to listen on %s, beyond this machine; got %d: generate one with openssl rand -hex 32",
			leastToken, s.listen(), utf8.RuneCountInString(s.AdminToken))
	}
	return nil
}

// leastToken is the minimum length of an ADMIN_TOKEN, in characters.
const leastToken = 32

// shortToken reports whether ADMIN_TOKEN is set and too short.
func (s *settings) shortToken() bool {
	return s.AdminToken != "" && utf8.RuneCountInString(s.AdminToken) < leastToken
}

// errNobody returns why an address beyond loopback is not served: without a
// token or signup, no organization could be created there.
func (s *settings) errNobody() error {
	return fmt.Errorf("to listen on %s, beyond this machine, set ADMIN_TOKEN, or generate a token in a PostgreSQL database with triggerd token new, or set OPEN_SIGNUP=true to let anyone create a key", s.listen())
}

func (s *settings) limits() map[trigger.Tier]int {
	limits := map[trigger.Tier]int{
		trigger.Free:         s.RateLimitRPM,
		trigger.Professional: 10 * s.RateLimitRPM,
		trigger.Enterprise:   100 * s.RateLimitRPM,
	}
	if s.RateLimitRPMProfessional != nil {
		limits[trigger.Professional] = *s.RateLimitRPMProfessional
	}
	if s.RateLimitRPMEnterprise != nil {
		limits[trigger.Enterprise] = *s.RateLimitRPMEnterprise
	}
	return limits
}

// store returns the options of the database: PostgreSQL if any of its settings
// is set.
func (s *settings) store(now func() time.Time) store.Options {
	return store.Options{
		PostgresURL: s.postgresURL(), PoolSize: s.DBPoolSize, DataDir: s.DataDir, SecretKeys: s.SecretKey,
		Retention: s.Retention.Duration, Unsafe: s.Dev, Now: now,
	}
}
