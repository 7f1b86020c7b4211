package agentchains

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"
)

// putDeadLetter keeps a notification that was given up on. The caller holds the
// store lock of its queue.
func (b *backend) putDeadLetter(ctx context.Context, s logical.Storage, notifier, item string, e *outboxEntry) error {
	if _, err := putJSON(ctx, s, deadLetterKey(notifier, item), e); err != nil {
		return err
	}
	b.Logger().Warn("a notification was given up", "notifier", notifier, "event", e.Event, "id", e.ID, "error", e.LastError)
	items, err := listKeys(ctx, s, deadLetterPrefix+notifier+"/")
	if err != nil {
		return err
	}
	for len(items) > mostDeadLetters {
		if err := deleteKey(ctx, s, deadLetterKey(notifier, items[0])); err != nil {
			return err
		}
		b.counts.dropped.Add(1)
		items = items[1:]
	}
	return nil
}

// retryDeadLetters has the dead letters of a notifier delivered again, and
// returns how many. The new entry comes before the old one goes: a crash leaves
// both, and the same again is the same entry.
func (b *backend) retryDeadLetters(ctx context.Context, s logical.Storage, notifier string) (retried int, err error) {
	items, err := listKeys(ctx, s, deadLetterPrefix+notifier+"/")
	if err != nil {
		return 0, err
	}
	for _, item := range items {
		err := b.withQueue(ctx, s, notifier, func(q *queue) error {
			e, err := getJSON[outboxEntry](ctx, s, deadLetterKey(notifier, item))
			if e == nil || err != nil {
				return err
			}
			if !b.outbox.has(q, itemID(e.notification)) {
				if err := b.putOutbox(ctx, s, q, &outboxEntry{notification: e.notification}); err != nil {
					return err
				}
			}
			retried++
			return deleteKey(ctx, s, deadLetterKey(notifier, item))
		})
		if err != nil {
			return retried, err
		}
	}
	return retried, nil
}

// deleteOutbox deletes all that waits for a notifier, and its dead letters. The
// caller holds q.store.
func (b *backend) deleteOutbox(ctx context.Context, s logical.Storage, q *queue) error {
	for _, prefix := range []string{outboxPrefix, deadLetterPrefix} {
		items, err := listKeys(ctx, s, prefix+q.notifier+"/")
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := deleteKey(ctx, s, prefix+q.notifier+"/"+item); err != nil {
				return err
			}
			if prefix == outboxPrefix {
				b.outbox.drop(q, item)
			}
		}
	}
	return nil
}

// outboxStatus is what status says of notifications: how many wait for each
// notifier and how many were given up, and the first of those.
func outboxStatus(ctx context.Context, s logical.Storage) (map[string]any, error) {
	notifiers, err := listKeys(ctx, s, notifierPrefix)
	if err != nil {
		return nil, err
	}
	counts, letters := map[string]any{}, []any{}
	for _, name := range notifiers {
		waiting, err := listKeys(ctx, s, outboxPrefix+name+"/")
		if err != nil {
			return nil, err
		}
		dead, err := listKeys(ctx, s, deadLetterPrefix+name+"/")
		if err != nil {
			return nil, err
		}
		counts[name] = map[string]any{"waiting": len(waiting), "dead": len(dead)}
		for _, item := range dead[:min(len(dead), mostListed-len(letters))] {
			e, err := getJSON[outboxEntry](ctx, s, deadLetterKey(name, item))
			if err != nil {
				return nil, err
			}
			if e != nil {
				letters = append(letters, map[string]any{"notifier": name, "id": e.ID, "event": e.Event, "time": timeString(e.Time), "attempts": e.Attempts, "last_error": e.LastError})
			}
		}
	}
	return map[string]any{"outbox": counts, "dead_letters": letters}, nil
}
