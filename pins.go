package agentchains

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// pinSet is a set of versions that executions were given together.
type pinSet struct {
	key  pinsKey
	pins []pin
	held map[string]struct{} // by executions with these ids
}

type pinsKey [sha256.Size]byte

// hashPins identifies a set of pins, which are in the order of resolution.
func hashPins(pins []pin) pinsKey {
	h := sha256.New()
	var number [8]byte
	for _, p := range pins {
		binary.BigEndian.PutUint64(number[:], uint64(p.Version))
		_, _ = h.Write(number[:])
		_, _ = h.Write([]byte(p.Path))
		_, _ = h.Write([]byte{0})
	}
	return pinsKey(h.Sum(nil))
}

func (x *executions) pinsLocked(pins []pin) *pinSet {
	key := hashPins(pins)
	set := x.pinned[key]
	if set != nil {
		return set
	}
	set = &pinSet{key, pins, map[string]struct{}{}}
	x.pinned[key] = set
	for _, p := range pins {
		versions := x.holding[p.Path]
		if versions == nil {
			versions = map[int]map[*pinSet]struct{}{}
			x.holding[p.Path] = versions
		}
		if versions[p.Version] == nil {
			versions[p.Version] = map[*pinSet]struct{}{}
		}
		versions[p.Version][set] = struct{}{}
	}
	return set
}

// dropLocked forgets a set that nobody holds any more.
func (x *executions) dropLocked(set *pinSet) {
	delete(x.pinned, set.key)
	for _, p := range set.pins {
		versions := x.holding[p.Path]
		if delete(versions[p.Version], set); len(versions[p.Version]) == 0 {
			delete(versions, p.Version)
		}
		if len(versions) == 0 {
			delete(x.holding, p.Path)
		}
	}
}

// closePins lets no new execution pin a version until it is opened again; 0
// stands for any version of the entry. Who is about to remove a version closes
// first and counts then: whoever pinned before is counted, and nobody pins after.
func (x *executions) closePins(p pin) (open func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed[p]++
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.closed[p]--; x.closed[p] == 0 {
			delete(x.closed, p)
		}
	}
}

// closedLocked reports whether a version takes no new pins.
func (x *executions) closedLocked(p pin) bool {
	return len(x.closed) > 0 && (x.closed[p] > 0 || x.closed[pin{Path: p.Path}] > 0)
}

// pins returns the versions that executions hold.
func (x *executions) pins() []pin {
	x.mu.Lock()
	defer x.mu.Unlock()
	var pins []pin
	for path, versions := range x.holding {
		for version := range versions {
			pins = append(pins, pin{path, version})
		}
	}
	return pins
}

// count returns how many executions hold a version, and whether all that runs is
// known.
func (x *executions) count(p pin) (n int, known bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for set := range x.holding[p.Path][p.Version] {
		n += len(set.held)
	}
	return n, x.ready
}

// holders returns the ids of executions that hold a version of an entry; 0
// stands for any version. It fails until all that runs is known.
func (x *executions) holders(a scope.Address, version int) ([]string, error) {
	return x.holdersWhere(a, func(held int) bool { return version == 0 || held == version })
}

// holdersWhere is holders for the versions that match.
func (x *executions) holdersWhere(a scope.Address, match func(version int) bool) ([]string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ready {
		return nil, errIndexNotReady()
	}
	return x.holdersLocked(a.Path(), match), nil
}

// heldBy returns the executions that hold a version, as far as they are known.
func (x *executions) heldBy(p pin) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.holdersLocked(p.Path, func(version int) bool { return version == p.Version })
}

func (x *executions) holdersLocked(path string, match func(version int) bool) []string {
	var ids []string
	for version, sets := range x.holding[path] {
		if !match(version) {
			continue
		}
		for set := range sets {
			ids = slices.AppendSeq(slices.Grow(ids, len(set.held)), maps.Keys(set.held))
		}
	}
	return ids
}
