package agentchains

import (
	"maps"
	"sync"
	"time"
)

const (
	mountTexts      = 60 // that one identity may have checked against the mount in a minute
	mountHits       = 10 // values that it may find in an hour without seeing their secrets
	hitWindow       = time.Hour
	mostMountUsers  = 10_000
	secondsForATurn = 60.0 / mountTexts
)

// mountUsers bounds what an identity can learn of secrets that it does not see: else
// it could ask for guesses.
type mountUsers struct {
	mu   sync.Mutex // guards all below
	byID map[string]*mountUser
}

type mountUser struct {
	turns float64 // left at a time
	at    time.Time
	told  map[uint64]time.Time // the values that it found, by their hashes
	shut  time.Time            // until then it is told nothing
}

func newMountUsers() *mountUsers { return &mountUsers{byID: map[string]*mountUser{}} }

// turn takes one of the requests of an identity.
func (us *mountUsers) turn(id string, now time.Time) error {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.byID[id]
	if u == nil {
		if len(us.byID) >= mostMountUsers {
			maps.DeleteFunc(us.byID, func(_ string, u *mountUser) bool { return u.idle(now) })
		}
		if len(us.byID) >= mostMountUsers {
			return tooMany("too many identities check texts against the whole mount: try again in a minute")
		}
		u = &mountUser{turns: mountTexts, at: now, told: map[uint64]time.Time{}}
		us.byID[id] = u
	}
	u.turns = min(mountTexts, u.turns+max(0, now.Sub(u.at).Seconds())/secondsForATurn)
	u.at = now
	switch {
	case now.Before(u.shut):
		return tooManyHits()
	case u.turns < 1:
		return tooMany("more than %d texts a minute are to be checked against the whole mount: wait a second", mountTexts)
	}
	u.turns--
	return nil
}

// hits notes the values that an identity is going to be told of, and returns how
// many of them it was not told of within the window. When they are too
// many it is told of none, and for a while of nothing else: the refusal itself says
// something about the text, and must not be had again and again.
func (us *mountUsers) hits(id string, hashes map[uint64]bool, now time.Time) (fresh int, err error) {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.byID[id]
	if u == nil { // it was idle for so long that it was dropped meanwhile
		return 0, tooManyHits()
	}
	maps.DeleteFunc(u.told, func(_ uint64, at time.Time) bool { return now.Sub(at) >= hitWindow })
	for hash := range hashes {
		if _, known := u.told[hash]; !known {
			fresh++
		}
	}
	if now.Before(u.shut) || len(u.told)+fresh > mountHits {
		u.shut = now.Add(hitWindow)
		return 0, tooManyHits()
	}
	for hash := range hashes {
		if _, known := u.told[hash]; !known {
			u.told[hash] = now
		}
	}
	return fresh, nil
}

func tooManyHits() error {
	return tooMany("more than %d secrets that are not the agent's own were found within an hour: for an hour nothing is checked against the whole mount", mountHits)
}

// idle reports whether a new user could do nothing that this one cannot.
func (u *mountUser) idle(now time.Time) bool {
	if now.Before(u.shut) || now.Sub(u.at) < time.Minute {
		return false
	}
	for _, at := range u.told {
		if now.Sub(at) < hitWindow {
			return false
		}
	}
	return true
}
