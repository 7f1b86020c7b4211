package agentchains

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathStatus() *framework.Path {
	return &framework.Path{
		Pattern:      "status",
		DisplayAttrs: displayAttrs("", "status"),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.statusRead,
				Summary:      "Read what needs attention, and counters for monitoring.",
				DisplayAttrs: displayAttrs("read", "status"),
				Responses: okResponse(map[string]*framework.FieldSchema{
					"version":        {Type: framework.TypeString, Description: "The version of the plugin.", Required: true},
					"started_at":     {Type: framework.TypeString, Description: "When the plugin was started on this node. Counters count from then.", Required: true},
					"expired":        {Type: framework.TypeSlice, Description: "Paths and times of versions that have expired, the first 100.", Required: true},
					"expiring":       {Type: framework.TypeSlice, Description: "Paths and times of versions that expire within 7 days, the first 100.", Required: true},
					"due":            {Type: framework.TypeSlice, Description: "Path and due_at of schedules whose time has come and that are not rotating, the first 100.", Required: true},
					"draining":       {Type: framework.TypeSlice, Description: "Path, started_at and executions of rotations that wait for the executions that hold the old version, the first 100.", Required: true},
					"failed":         {Type: framework.TypeSlice, Description: "Path, started_at and last_error of rotations of which a step is tried again, the first 100.", Required: true},
					"orphaned":       {Type: framework.TypeSlice, Description: "The same of rotations that need a person.", Required: true},
					"overdue":        {Type: framework.TypeSlice, Description: "Path and version that was destroyed, and how many executions still hold it, the first 100.", Required: true},
					"outbox":         {Type: framework.TypeMap, Description: "How many notifications are waiting, and how many are dead, by notifier.", Required: true},
					"dead_letters":   {Type: framework.TypeSlice, Description: "Notifier, id, event, time, attempts and last_error of notifications that were given up, the first 100.", Required: true},
					"executions":     {Type: framework.TypeMap, Description: "How many executions have not ended, by chain; null while the engine still reads what runs.", Required: true},
					"stoppable":      {Type: framework.TypeMap, Description: "How ready executions are to be stopped now: watched and unwatched count those that somebody has watched in the last 15 seconds, and the others, of which executions lists the first 100; null while the engine still reads what runs.", Required: true},
					"unacknowledged": {Type: framework.TypeSlice, Description: "Incident_id, created_at and executions of incidents of which executions have not acknowledged yet.", Required: true},
					"counters":       {Type: framework.TypeMap, Description: "env_reads, creds_reads, reveal_reads, refused_reads, executions_started, notifications_dropped, leaks (how often leak.detected was told), redacted_texts, of the checks against the whole mount mount_checks, mount_hits (secrets that the caller did not see) and mount_refused (429), of their index mount_index_values and mount_index_bytes, and of the cache entries, bytes, limit_bytes, hits and misses.", Required: true},
				}),
			},
		},
		HelpSynopsis:    "What needs attention, and counters.",
		HelpDescription: statusHelp,
	}
}

const statusHelp = `
Lists secrets and groups that have expired or are about to, rotations that are
due, drain, fail or need a person, and executions that hold a version that was
destroyed. Counts reads and the use of the cache since the start of the plugin.
`

const (
	expiringWithin = 7 * 24 * time.Hour
	mostListed     = 100
	watchedWithin  = 15 * time.Second // three polls of a runner
)

func (b *backend) statusRead(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	expired, expiring, err := b.expirySoon(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	cache := b.cache.stats()
	values, bytes := b.mount.stats()
	var executions, stoppable map[string]any
	if b.executions.isReady() {
		executions = b.executions.live()
		watched, unwatched, ids := b.executions.watchedSince(b.now().Add(-watchedWithin), mostListed)
		stoppable = map[string]any{"watched": watched, "unwatched": unwatched, "executions": append([]string{}, ids...)}
	}
	rotations, err := b.rotationStatus(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	notifications, err := outboxStatus(ctx, req.Storage)
	if err != nil {
		return respond(err)
	}
	data := map[string]any{
		"version":        Version,
		"started_at":     timeString(b.started),
		"expired":        expired,
		"expiring":       expiring,
		"executions":     executions,
		"stoppable":      stoppable,
		"unacknowledged": b.incidents.unacknowledged(),
		"counters": map[string]any{
			"env_reads": b.counts.env.Load(), "creds_reads": b.counts.creds.Load(), "reveal_reads": b.counts.reveal.Load(),
			"refused_reads": b.counts.refused.Load(), "executions_started": b.counts.started.Load(), "notifications_dropped": b.counts.dropped.Load(), "leaks": b.counts.leaks.Load(), "cache_entries": cache.entries, "cache_bytes": cache.bytes,
			"redacted_texts": b.counts.redacted.Load(), "mount_checks": b.counts.mountChecked.Load(), "mount_hits": b.counts.mountHits.Load(), "mount_refused": b.counts.mountRefused.Load(),
			"mount_index_values": values, "mount_index_bytes": bytes,
			"cache_limit_bytes": cache.limit, "cache_hits": cache.hits, "cache_misses": cache.misses,
		},
	}
	maps.Copy(data, rotations)
	maps.Copy(data, notifications)
	return &logical.Response{Data: data}, nil
}

// expirySoon returns what has expired and what is about to, by the index of
// expiries, whose lines are checked against the entries.
func (b *backend) expirySoon(ctx context.Context, s logical.Storage) (expired, expiring []any, err error) {
	now := b.now()
	expired, expiring = []any{}, []any{}
	times, err := listKeys(ctx, s, expiryPrefix)
	if err != nil {
		return nil, nil, err
	}
	for _, key := range times {
		at, err := time.Parse(time.RFC3339, strings.TrimSuffix(key, "/"))
		if err != nil || at.After(now.Add(expiringWithin)) {
			break
		}
		to := &expired
		if at.After(now) {
			to = &expiring
		}
		if len(*to) == mostListed {
			continue
		}
		found, err := b.expiringAt(ctx, s, at, mostListed-len(*to))
		if err != nil {
			return nil, nil, err
		}
		*to = append(*to, found...)
	}
	return expired, expiring, nil
}
