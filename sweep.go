package agentchains

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"
)

// loadExecutions reads what ran when the engine was started. Renewals are not
// stored, so each counts as live for one more lease, in which it can be renewed.
func (b *backend) loadExecutions(ctx context.Context, s logical.Storage) error {
	if b.executions.isReady() {
		return nil
	}
	if err := b.requireStops(ctx, s); err != nil {
		return err
	}
	err := eachShard(ctx, s, livePrefix, func(ids []string) error {
		return b.atOnce(ids, func(id string) error { return b.loadExecution(ctx, s, id) })
	})
	if err == nil {
		b.executions.setReady()
	}
	return err
}

func (b *backend) loadExecution(ctx context.Context, s logical.Storage, id string) error {
	lock := b.lockExecution(id)
	lock.Lock()
	defer lock.Unlock()
	e, err := getJSON[executionEntry](ctx, s, liveExecutionKey(id))
	switch {
	case err != nil:
		return err
	case e == nil: // moved meanwhile
	case e.State.ended():
		b.executions.toMove(id)
	default:
		return b.index(ctx, s, e)
	}
	return nil
}

// index adds an execution that was started before the engine was. What it was told
// since, and its record does not say yet, holds from the first moment: who stores an
// order either finds it here, or has it compared with the order anew.
func (b *backend) index(ctx context.Context, s logical.Storage, e *executionEntry) error {
	for {
		noted := b.executions.ordersNoted()
		order, err := b.orderStored(ctx, s, e)
		if err != nil {
			return err
		}
		if b.executions.putOrdered(e, b.started.Add(e.TTL), order, noted) {
			return nil
		}
	}
}

// eachShard calls do with the ids in each shard below a prefix.
func eachShard(ctx context.Context, s logical.Storage, prefix string, do func(ids []string) error) error {
	shards, err := listKeys(ctx, s, prefix)
	if err != nil {
		return err
	}
	for _, shard := range shards {
		ids, err := listKeys(ctx, s, prefix+shard)
		if err != nil {
			return err
		}
		if err := do(ids); err != nil {
			return err
		}
	}
	return nil
}

// atOnce calls do for all ids, several at a time, because there may be many and
// storage may be far away. It returns the first error.
func (b *backend) atOnce(ids []string, do func(id string) error) error {
	const most = 8
	var group errgroup.Group
	group.SetLimit(most)
	for _, id := range ids {
		group.Go(func() (err error) {
			defer func() {
				if b.recovered("storage", recover()) {
					err = fmt.Errorf("the record of %s cannot be worked on: the log says where", id)
				}
			}()
			return do(id)
		})
	}
	return group.Wait()
}

const (
	// leaseGrace is how long Vault may take to revoke a lease that has expired.
	// An execution whose lease it never registered ends after it too.
	leaseGrace = 30 * time.Second
	sweepBatch = 1000
)

// expireExecutions ends executions whose leases are over and were not revoked.
func (b *backend) expireExecutions(ctx context.Context, s logical.Storage) error {
	for _, id := range b.executions.overdue(b.now(), leaseGrace, sweepBatch) {
		_, err := b.withExecution(ctx, s, id, func(e *executionEntry) error {
			e.leaseEnded(b.now())
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// moveExecutions moves executions that have ended out of the way.
func (b *backend) moveExecutions(ctx context.Context, s logical.Storage) error {
	moves := b.executions.takeMoves()
	for i, id := range moves {
		if err := b.moveExecution(ctx, s, id); err != nil {
			b.executions.toMove(moves[i:]...)
			return err
		}
	}
	return nil
}

// deleteOldExecutions deletes those that were kept long enough.
func (b *backend) deleteOldExecutions(ctx context.Context, s logical.Storage) error {
	settings, err := b.getConfig(ctx, s)
	if err != nil {
		return err
	}
	return deleteHistory(ctx, s, b.now().Add(-settings.ExecutionHistory), sweepBatch)
}

// moveExecution puts an ended execution away. The line in the history comes
// first and the old record goes last: a crash leaves a line too many, or the
// record in both places, of which the old one is moved again.
func (b *backend) moveExecution(ctx context.Context, s logical.Storage, id string) error {
	lock := b.lockExecution(id)
	lock.Lock()
	defer lock.Unlock()
	e, err := getJSON[executionEntry](ctx, s, liveExecutionKey(id))
	if err != nil || e == nil || !e.State.ended() { // a start that was refused is tried again with its id
		return err
	}
	if _, err := putJSON(ctx, s, historyKey(e), historyEntry{}); err != nil {
		return err
	}
	if err := putEndedExecution(ctx, s, e); err != nil {
		return err
	}
	return deleteKey(ctx, s, liveExecutionKey(id))
}

// historyEntry is a line of the index of ended executions by the hour of their
// end. Only its key says something.
type historyEntry struct{}

func historyKey(e *executionEntry) string {
	return historyPrefix + e.EndedAt.UTC().Format(indexHour) + "/" + e.ID
}

// deleteHistory deletes executions that ended before a time, at most so many.
func deleteHistory(ctx context.Context, s logical.Storage, before time.Time, most int) error {
	hours, err := listKeys(ctx, s, historyPrefix)
	if err != nil {
		return err
	}
	for _, hour := range hours {
		if strings.TrimSuffix(hour, "/") >= before.UTC().Format(indexHour) {
			return nil
		}
		ids, err := listKeys(ctx, s, historyPrefix+hour)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if most--; most < 0 {
				return nil
			}
			if err := deleteKey(ctx, s, endedExecutionKey(id)); err != nil {
				return err
			}
			if err := deleteKey(ctx, s, historyPrefix+hour+id); err != nil {
				return err
			}
		}
	}
	return nil
}
