package agentchains

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// config holds the settings of the mount. It is stored once somebody changes
// one; until then defaultConfig holds.
type config struct {
	Environments     []string      `json:"environments"`
	MinOverlap       time.Duration `json:"min_overlap"`
	MaxOverlap       time.Duration `json:"max_overlap"`
	OnOverdue        string        `json:"on_overdue"`
	ExecutionTTL     time.Duration `json:"execution_ttl"`
	ExecutionHistory time.Duration `json:"execution_history"`
	CredsMaxTTL      time.Duration `json:"creds_max_ttl"`
	AllowedHosts     []string      `json:"allowed_hosts"`
	RotationWebhook  string        `json:"rotation_webhook"`
	CacheBytes       int64         `json:"cache_bytes"`
}

const (
	defaultCacheBytes = 64 << 20
	leastCacheBytes   = 1 << 20
	mostCacheBytes    = 16 << 30
	mostEnvironments  = 64
	mostHosts         = 1000
)

func defaultConfig() *config {
	return &config{
		Environments:     []string{"dev", "staging", "prod"},
		MinOverlap:       10 * time.Minute,
		MaxOverlap:       24 * time.Hour,
		OnOverdue:        "alert",
		ExecutionTTL:     time.Minute,
		ExecutionHistory: 7 * 24 * time.Hour,
		CredsMaxTTL:      5 * time.Minute,
		CacheBytes:       defaultCacheBytes,
	}
}

func (c *config) validate() error {
	if len(c.Environments) == 0 || len(c.Environments) > mostEnvironments {
		return badRequest("environments must name 1 to %d environments", mostEnvironments)
	}
	for i, name := range c.Environments {
		if err := scope.CheckEnvironment(name); err != nil {
			return badRequest("environments[%d] %s", i, err)
		}
		if slices.Contains(c.Environments[:i], name) {
			return badRequest("environments[%d] stands there twice", i)
		}
	}
	for _, d := range []struct {
		name         string
		value, least time.Duration
	}{
		{"max_overlap", c.MaxOverlap, c.MinOverlap},
		{"execution_ttl", c.ExecutionTTL, 5 * time.Second},
		{"execution_history", c.ExecutionHistory, time.Minute},
		{"creds_max_ttl", c.CredsMaxTTL, time.Second},
	} {
		if d.value < d.least {
			return badRequest("%s must be at least %s", d.name, d.least)
		}
	}
	if c.OnOverdue != "alert" && c.OnOverdue != "kill" {
		return badRequest("on_overdue must be alert or kill")
	}
	if len(c.AllowedHosts) > mostHosts {
		return badRequest("allowed_hosts must have at most %d entries", mostHosts)
	}
	for i, host := range c.AllowedHosts {
		if !validHost(host) {
			return badRequest("allowed_hosts[%d] must be host, host:port, *.suffix or an address range such as 10.0.0.0/8", i)
		}
	}
	if c.RotationWebhook != "" && scope.CheckSegment(c.RotationWebhook) != nil {
		return badRequest("rotation_webhook must be the name of a rotator")
	}
	if c.CacheBytes < leastCacheBytes || c.CacheBytes > mostCacheBytes {
		return badRequest("cache_bytes must be from %d to %d", leastCacheBytes, mostCacheBytes)
	}
	return nil
}

var hostPattern = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func validHost(entry string) bool {
	if _, _, err := net.ParseCIDR(entry); err == nil {
		return true
	}
	host := entry
	if h, port, err := net.SplitHostPort(entry); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	}
	return net.ParseIP(host) != nil || hostPattern.MatchString(strings.ToLower(host))
}

// checkEnvironment reports an environment that is not in config, in a path.
func (c *config) checkEnvironment(name string) error {
	if slices.Contains(c.Environments, name) {
		return nil
	}
	if name == scope.All {
		return badRequest("the environment in the path must not be all: it is a place to store, not one to resolve")
	}
	return badRequest("the environment in the path is not one of %s: add it to config first", strings.Join(c.Environments, ", "))
}

// getConfig returns the settings in force. They are shared: read, never changed.
func (b *backend) getConfig(ctx context.Context, s logical.Storage) (*config, error) {
	c, err := cachedGet[config](ctx, b.cache, s, configKey)
	if c == nil && err == nil {
		c = defaultConfig()
	}
	return c, err
}

// putConfigLocked stores the settings. The caller holds configLock for writing.
func (b *backend) putConfigLocked(ctx context.Context, s logical.Storage, c *config) error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := cachedPut(ctx, b.cache, s, configKey, c, c); err != nil {
		return err
	}
	b.cache.setLimit(c.CacheBytes)
	return nil
}
