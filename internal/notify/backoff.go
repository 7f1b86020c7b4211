package notify

import "time"

// MaxAttempts is how often a delivery is tried: with Backoff between them for
// about a day.
const MaxAttempts = 30

// Backoff returns how long to wait after so many attempts have failed: from a
// second, four times as long each time, up to an hour; and by chance, a number
// from 0 to 1, up to a quarter less or more, so that not all come back at once.
func Backoff(failed int, chance float64) time.Duration {
	wait := time.Second
	for range failed - 1 {
		wait = min(4*wait, time.Hour)
	}
	return time.Duration(float64(wait) * (0.75 + chance/2))
}
