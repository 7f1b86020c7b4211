package agentchains

import (
	"fmt"
	"hash/maphash"
	"runtime"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// logText returns about n bytes of a log.
func logText(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "2030-01-01T00:00:%02dZ INFO step %d of the build: compiled internal/package%d in %d.%02d s (cache hit, digest %x)\n", i%60, i, i%97, i%7, i%100, i*2654435761)
	}
	return b.String()[:n]
}

// allocated returns how much of the heap what make returns takes.
func allocated(create func() any) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := create()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc)
}

// BenchmarkAgentSet compiles the set of an agent with so many secrets of 32 bytes, and
// redacts a short and the longest text with it.
func BenchmarkAgentSet(b *testing.B) {
	for _, secrets := range []int{1, 10, 100, 1000} {
		values := make([]redact.Secret, secrets)
		for i := range values {
			values[i] = redact.Secret{Name: fmt.Sprintf("SECRET_%d", i), Version: 1, Value: token(i), Force: true}
		}
		compile := func() any {
			set := redact.NewSet(values...)
			set.FindFormats(redact.Precise)
			return set
		}
		set := &agentSet{set: compile().(*redact.Set)}
		b.Run(fmt.Sprintf("%d/compile", secrets), func(b *testing.B) {
			for b.Loop() {
				compile()
			}
			taken := allocated(compile)
			b.ReportMetric(taken, "B/set")
			b.ReportMetric(float64(baseSetBytes+secrets*formBytes(token(0)))/taken, "counted/taken")
		})
		for _, size := range []int{100, maxRedactText} {
			text := logText(size - 40)
			text += " " + token(0)
			b.Run(fmt.Sprintf("%d/text of %d", secrets, len(text)), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					if set.answer(text, nil)["count"] != 1 {
						b.Fatal("not found")
					}
				}
			})
		}
	}
}

// BenchmarkMountTable fills the table of a mount of so many secrets, and searches
// the longest text with it.
func BenchmarkMountTable(b *testing.B) {
	for _, secrets := range []int{1000, 100_000, 1_000_000} {
		fill := func() any {
			t := newMountTable(maphash.MakeSeed())
			a := address("prod/project/some-project/SECRET")
			for i := range secrets {
				if i%100 == 0 {
					a.Scope.Project = fmt.Sprintf("project-%d", i/100)
				}
				a.Name = fmt.Sprintf("SECRET_NUMBER_%d", i%100)
				t.put(a, []string{token(i)})
			}
			return t
		}
		b.Run(fmt.Sprintf("%d/fill", secrets), func(b *testing.B) {
			for b.Loop() {
				fill()
			}
			took := allocated(fill)
			b.ReportMetric(took/float64(secrets), "B/secret")
			t := fill().(*mountTable)
			b.ReportMetric(float64(t.bytes())/took, "counted/taken")
		})
		index := newMountIndex()
		table := fill().(*mountTable)
		for name, text := range map[string]string{"log": logText(maxRedactText), "base64": strings.Repeat(strings.NewReplacer("-", "", " ", "", ":", "", "\n", "", ".", "", "(", "", ")", "", ",", "").Replace(logText(4096)), 512)[:maxRedactText]} {
			b.Run(fmt.Sprintf("%d/search of %s", secrets, name), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					effort := mostEffort
					for r := range readings([]byte(text)) {
						index.search(table, r.text, &effort, func(int, int, uint64) { b.Fatal("found") })
					}
				}
			})
		}
	}
}
