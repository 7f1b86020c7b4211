package agentchains

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// worker is the mount's one goroutine. It does what need not be done, or must
// not wait, while a request is answered.
type worker struct {
	kick   chan struct{} // holds at most one: kicks that come meanwhile are one
	cancel context.CancelFunc
	done   chan struct{}
}

// startWorker runs the worker until Clean.
func (b *backend) startWorker(s logical.Storage) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{kick: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	if !b.worker.CompareAndSwap(nil, w) {
		cancel()
		return
	}
	go func() {
		defer close(w.done)
		b.work(ctx, s)
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.kick:
				b.work(ctx, s)
			}
		}
	}()
}

// work is one pass of the worker.
func (b *backend) work(ctx context.Context, s logical.Storage) {
	defer func() { b.recovered("worker", recover()) }()
	if !b.WriteSafeReplicationState() {
		return
	}
	periodic := b.periodicDue.Swap(false)
	for _, task := range []struct {
		what  string
		do    func(context.Context, logical.Storage) error
		often bool // on every kick, not only on Vault's own
	}{
		{"what runs is not read completely", b.loadExecutions, true},
		{"ended executions are not put away yet", b.moveExecutions, true},
		{"executions past their time are not ended yet", b.expireExecutions, false},
		{"old executions are not deleted yet", b.deleteOldExecutions, false},
		{"who read what is not stored yet", b.flushReaders, false},
	} {
		if !task.often && !periodic {
			continue
		}
		if err := task.do(ctx, s); err != nil && !isReadOnly(err) && ctx.Err() == nil {
			b.Logger().Warn(task.what+", and is tried again", "error", err)
		}
	}
}

// periodic only kicks the worker: Vault holds locks while it calls.
func (b *backend) periodic(context.Context, *logical.Request) error {
	b.periodicDue.Store(true)
	b.kick()
	return nil
}

func (b *backend) kick() {
	if w := b.worker.Load(); w != nil {
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}

// clean ends what waits and what works. Vault waits for it with its locks held,
// so it does not wait long.
func (b *backend) clean(context.Context) {
	b.cleanOnce.Do(func() { close(b.cleaned) })
	b.stopWorker()
}

func (b *backend) stopWorker() {
	const patience = time.Second
	w := b.worker.Swap(nil)
	if w == nil {
		return
	}
	w.cancel()
	select {
	case <-w.done:
	case <-time.After(patience):
	}
}
