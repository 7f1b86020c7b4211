package agentchains

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPage compares both ways to a page with the keys behind the one it starts after.
func TestPage(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		keys := make([]string, random.IntN(50))
		for i := range keys {
			keys[i] = fmt.Sprintf("%04d", random.IntN(10_000))
		}
		sorted := sortedUnion(keys, nil)
		keys = slices.Clone(sorted)
		random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		after := []string{"", "5000", "9999"}[random.IntN(3)]
		if len(keys) > 0 && random.IntN(2) == 0 {
			after = keys[0]
		}
		limit := []int{1, 2, 7, 100, math.MaxInt}[random.IntN(5)]
		want := []string{}
		for _, key := range sorted {
			if key > after && len(want) < limit {
				want = append(want, key)
			}
		}
		for how, got := range map[string][]string{"sorted": page(sorted, after, limit), "unsorted": pageUnsorted(keys, after, limit)} {
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %d keys after %q of %v give %v, not %v", how, limit, after, sorted, got, want)
			}
		}
	}
}
