package agentchains

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/notify"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
)

// workOnOutbox begins to deliver what is due, and returns how long nothing will be.
func (b *backend) workOnOutbox(ctx context.Context, s logical.Storage) (sleep time.Duration) {
	sleep = stepPause
	defer func() { b.recovered("outbox", recover()) }()
	if !b.WriteSafeReplicationState() {
		return time.Minute
	}
	if err := b.loadOutbox(ctx, s); err != nil {
		if !isReadOnly(err) && ctx.Err() == nil {
			b.Logger().Warn("notifications are not delivered, which is tried again", "error", err)
		}
		return sleep
	}
	b.startDeliveries(s)
	return b.outbox.sleep(b.now())
}

// startDeliveries delivers, for each notifier that something is due for, one
// after the other. A receiver that hangs delays nobody else's.
func (b *backend) startDeliveries(s logical.Storage) {
	w := b.worker.Load()
	if w == nil {
		return
	}
	for _, q := range b.outbox.begin(b.now()) {
		w.group.Go(func() {
			resume := b.now().Add(stepPause)
			defer func() {
				b.recovered("delivery", recover())
				b.outbox.end(q, resume)
			}()
			if err := b.deliverDue(w.ctx, s, q); err == nil {
				resume = time.Time{}
			} else if !isReadOnly(err) && w.ctx.Err() == nil {
				b.Logger().Warn("what became of a notification is not noted, and it may be delivered again", "notifier", q.notifier, "error", err)
			}
		})
	}
}

func (b *backend) deliverDue(ctx context.Context, s logical.Storage, q *queue) error {
	for {
		item, excess, ok := b.outbox.next(q, b.now())
		if !ok || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := b.deliver(ctx, s, q, item, excess); err != nil {
			return err
		}
	}
}

// deliver tries once to deliver a notification, and notes the outcome. After a
// crash between the two it is delivered again.
func (b *backend) deliver(ctx context.Context, s logical.Storage, q *queue, item string, excess bool) error {
	e, err := getJSON[outboxEntry](ctx, s, outboxKey(q.notifier, item))
	if err != nil {
		return err
	}
	notifier, err := b.getNotifier(ctx, s, q.notifier)
	switch {
	case err != nil:
		return err
	case e == nil || notifier == nil: // deleted meanwhile
		b.outbox.drop(q, item)
		return nil
	case excess:
		e.Attempts, e.LastError = notify.MaxAttempts, fmt.Sprintf("more than %d notifications were waiting", mostWaiting)
	case e.Attempts >= notify.MaxAttempts: // the engine ended before it was put away
	case e.NextAttempt.After(b.now()):
		b.outbox.add(q, item, e.NextAttempt)
		return nil
	default:
		_, err := b.send(ctx, s, notifier, e.notification)
		if ctx.Err() != nil {
			return ctx.Err() // nobody knows whether it arrived
		}
		if err == nil {
			return b.settle(ctx, s, q, item, e, alertDelivered)
		}
		e.Attempts++
		e.LastError = err.Error()
		e.NextAttempt = b.now().Add(notify.Backoff(e.Attempts, rand.Float64()))
	}
	if err := b.ifWaiting(q, e, func() error { return b.putOutbox(ctx, s, q, e) }); err != nil || e.Attempts < notify.MaxAttempts {
		return err
	}
	return b.settle(ctx, s, q, item, e, alertDead)
}

// ifWaiting calls do unless the entry was deleted meanwhile, with its notifier.
func (b *backend) ifWaiting(q *queue, e *outboxEntry, do func() error) error {
	q.store.Lock()
	defer q.store.Unlock()
	if !b.outbox.has(q, itemID(e.notification)) {
		return nil
	}
	return do()
}

// The states of an alert.
const (
	alertDelivered = "delivered"
	alertDead      = "dead"
)

// settle ends the attempts. The incident is told first and the entry is deleted
// last: a crash between has it done again. That a notification is given up is in
// its entry already, so that then it is not tried once more.
func (b *backend) settle(ctx context.Context, s logical.Storage, q *queue, item string, e *outboxEntry, state string) error {
	attempts := e.Attempts
	if state == alertDelivered {
		attempts++
	}
	if incident := e.Text("incident_id"); incident != "" {
		a := alert{ID: e.ID, Event: e.Event, Notifier: q.notifier, State: state, Attempts: attempts, At: b.now()}
		if err := b.alerted(ctx, s, incident, a); err != nil {
			return err
		}
	}
	return b.ifWaiting(q, e, func() error {
		if state == alertDead {
			if err := b.putDeadLetter(ctx, s, q.notifier, item, e); err != nil {
				return err
			}
		}
		if err := deleteKey(ctx, s, outboxKey(q.notifier, item)); err != nil {
			return err
		}
		b.outbox.drop(q, item)
		return nil
	})
}

// deliveryLimit bounds one call of a receiver.
const deliveryLimit = 10 * time.Second

// send calls a receiver once. It returns the status of the answer, or 0 without
// one, and an error unless that is a success. The error can be shown.
func (b *backend) send(ctx context.Context, s logical.Storage, e *notifierEntry, n notification) (status int, err error) {
	c, err := b.getConfig(ctx, s)
	if err != nil {
		return 0, errors.New("config cannot be read")
	}
	hosts := outbound.Hosts(c.AllowedHosts)
	u, err := hosts.CheckURL(e.URL.Reveal())
	if err != nil {
		return 0, fmt.Errorf("url: %w", err)
	}
	roots, err := outbound.Roots(e.CAPEM)
	if err != nil {
		return 0, fmt.Errorf("ca_pem %w", err)
	}
	body, err := n.Body(e.Template, e.RoutingKey)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, deliveryLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("url cannot be called")
	}
	for name, value := range e.Headers {
		req.Header.Set(name, value.Reveal())
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "agentchains/"+Version)
	if e.HMACSecret.Len() > 0 {
		req.Header.Set(outbound.SignatureHeader, outbound.Sign(e.HMACSecret, body, b.now()))
	}
	resp, err := hosts.Client(roots).Do(req)
	if err != nil {
		return 0, callError(err)
	}
	_ = resp.Body.Close() // what it says beside the status is of no use
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, fmt.Errorf("%s answers %d", u.Host, resp.StatusCode)
	}
	return resp.StatusCode, nil
}

// callError says why a call got no answer, in words that hold nothing of what
// was sent or answered, and not the url.
func callError(err error) error {
	var (
		network     *net.OpError
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("there is no answer within %s", deliveryLimit)
	case errors.As(err, &name):
		return name
	case errors.As(err, &network):
		return network
	case errors.As(err, &certificate):
		return certificate
	}
	return errors.New("the call was cut off, or its answer is not HTTP")
}
