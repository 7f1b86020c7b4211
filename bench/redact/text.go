package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// every is how much of a log stands between two planted values.
const every = 64 << 10

// tokens are values of 20 to 44 characters, as a generator makes them.
func tokens(n int, plain bool) []redact.Secret {
	random := rand.New(rand.NewPCG(3, 4))
	list := make([]redact.Secret, n)
	for i := range list {
		raw := make([]byte, 15+random.IntN(19))
		for k := range raw {
			raw[k] = byte(random.Uint32())
		}
		list[i] = redact.Secret{Name: fmt.Sprint("TOKEN_", i), Version: 1, Value: base64.RawURLEncoding.EncodeToString(raw), Plain: plain}
	}
	return list
}

// synthetic is a log of short lines, without secrets.
func synthetic(size int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"GET", "/v1/orders/17", "200", "INFO", "WARN", "waiting for", "stage", "finished after", "8.25ms",
		"building", "example.org/shop/internal/cart", "passed", "attempt", "sha256:", "cached", "worker-3"}
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "2026-07-01 09:%02d:%02d,%03d", random.IntN(60), random.IntN(60), random.IntN(1000))
		for range 4 + random.IntN(8) {
			b.WriteString(" " + words[random.IntN(len(words))])
		}
		if random.IntN(4) == 0 {
			fmt.Fprintf(&b, " %016x", random.Uint64())
		}
		b.WriteByte('\n')
	}
	return b.Bytes()[:size]
}

// readLogs returns the real logs as one, with so much of each at most.
func readLogs(directory string, most int) ([]byte, error) {
	names, err := filepath.Glob(filepath.Join(directory, "log-*"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New(directory + " holds no logs")
	}
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, text[:min(len(text), most)]...)
	}
	return all, nil
}

// form is a text that shows a value, and whose it is.
type form struct{ text, name string }

// forms are those that are planted, and looked for by the oracle.
func forms(secrets []redact.Secret) []form {
	var list []form
	for _, s := range secrets {
		list = append(list, form{s.Value, s.Name})
		if !s.Plain {
			list = append(list, form{hex.EncodeToString([]byte(s.Value)), s.Name}, form{base64.StdEncoding.EncodeToString([]byte(s.Value)), s.Name})
		}
	}
	return list
}

// plant returns log with a line that holds a form in each 64 KiB, and how many.
func plant(log []byte, forms []form) (text []byte, planted int) {
	random := rand.New(rand.NewPCG(5, 6))
	var b bytes.Buffer
	for block := range slices.Chunk(log, every) {
		cut := bytes.LastIndexByte(block, '\n') + 1
		b.Write(block[:cut])
		fmt.Fprintf(&b, "sent %s to the client\n", forms[random.IntN(len(forms))].text)
		b.Write(block[cut:])
		planted++
	}
	return b.Bytes(), planted
}
