package agentchains

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// worker does what need not be done, or must not wait, while a request is
// answered: in one goroutine what is stored of executions, in others rotations
// and notifications, and in a few more the steps of rotators and the deliveries,
// which may wait for others.
type worker struct {
	kick      chan struct{} // holds at most one: kicks that come meanwhile are one
	rotations chan struct{} // the same for the rotations
	outbox    chan struct{} // the same for the outbox
	ctx       context.Context
	cancel    context.CancelFunc
	group     sync.WaitGroup
}

// startWorker runs the worker until Clean.
func (b *backend) startWorker(s logical.Storage) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{kick: make(chan struct{}, 1), rotations: make(chan struct{}, 1), outbox: make(chan struct{}, 1), ctx: ctx, cancel: cancel}
	if !b.worker.CompareAndSwap(nil, w) {
		cancel()
		return
	}
	w.group.Go(func() {
		b.work(ctx, s)
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.kick:
				b.work(ctx, s)
			}
		}
	})
	w.group.Go(func() { w.repeat(w.rotations, func() time.Duration { return b.workOnRotations(ctx, s) }) })
	w.group.Go(func() { w.repeat(w.outbox, func() time.Duration { return b.workOnOutbox(ctx, s) }) })
}

// repeat calls do again when it is kicked, or after the time that do returned.
func (w *worker) repeat(kicked <-chan struct{}, do func() time.Duration) {
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-kicked:
		case <-time.After(do()):
		}
	}
}

// workOnRotations does what is due, and returns how long nothing will be.
func (b *backend) workOnRotations(ctx context.Context, s logical.Storage) (sleep time.Duration) {
	const afterFailure = time.Second
	defer func() { b.recovered("rotations", recover()) }()
	if !b.WriteSafeReplicationState() {
		return time.Minute
	}
	more, err := b.advanceRotations(ctx, s)
	switch {
	case err != nil && ctx.Err() == nil:
		if !isReadOnly(err) {
			b.Logger().Warn("rotations do not advance, which is tried again", "error", err)
		}
		// What failed is due again, and has kicked the worker itself.
		select {
		case <-ctx.Done():
		case <-time.After(afterFailure):
		}
		return 0
	case more:
		return 0
	}
	return b.rotations.sleep(b.now())
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
		{"incidents are not read completely", b.loadIncidents, true},
		{"orders to stop are not stored with all executions yet", b.tellAll, true},
		{"of incidents nobody is told yet", b.tellIncidents, true},
		{"incidents are not stored yet", b.storeIncidents, true},
		{"ended executions are not put away yet", b.moveExecutions, true},
		{"executions past their time are not ended yet", b.expireExecutions, false},
		{"old executions are not deleted yet", b.deleteOldExecutions, false},
		{"who read what is not stored yet", b.flushReaders, false},
		{"of expiries nobody is told yet", b.tellExpiries, false},
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
		signal(w.kick)
	}
}

// kickLater kicks after a while, once for all who ask meanwhile.
func (b *backend) kickLater(after time.Duration) {
	if b.kickIsDue.CompareAndSwap(false, true) {
		time.AfterFunc(after, func() {
			b.kickIsDue.Store(false)
			b.kick()
		})
	}
}

func (b *backend) kickRotations() {
	if w := b.worker.Load(); w != nil {
		signal(w.rotations)
	}
}

func (b *backend) kickOutbox() {
	if w := b.worker.Load(); w != nil {
		signal(w.outbox)
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
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
	done := make(chan struct{})
	go func() {
		w.group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
	}
}
