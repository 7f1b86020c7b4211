package cluster

import (
	"context"
	"fmt"
	"time"
)

// Patience bounds every wait.
const Patience = time.Minute

// Eventually waits until done, or until patience is over.
func Eventually(what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain until %s", Patience, what)
		case <-tick.C:
		}
	}
}
