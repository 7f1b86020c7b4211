package rotator

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
)

// nativeHash is what MySQL and MariaDB store of a password for mysql_native_password.
func nativeHash(password string) string {
	once := sha1.Sum([]byte(password))
	return fmt.Sprintf("*%X", sha1.Sum(once[:]))
}

// cachingSHA2Salt is the length of the salt of a cachingSHA2Hash.
const cachingSHA2Salt = 20

// cachingSHA2Hash is what MySQL stores of a password for caching_sha2_password:
// the SHA-crypt of SHA-256 with 5000 rounds, and a salt of 20 bytes instead of 16.
// The names are those of the specification of SHA-crypt.
func cachingSHA2Hash(password, salt string) string {
	const rounds = 5000
	p, s := []byte(password), []byte(salt)

	b := sum(p, s, p)
	a := sha256.New()
	a.Write(p)
	a.Write(s)
	a.Write(stretch(b, len(p)))
	for n := len(p); n > 0; n >>= 1 {
		if n&1 != 0 {
			a.Write(b)
		} else {
			a.Write(p)
		}
	}
	c := a.Sum(nil)

	p = stretch(sum(bytes.Repeat(p, len(p))), len(p))
	s = stretch(sum(bytes.Repeat(s, 16+int(c[0]))), len(s))
	for i := range rounds {
		var parts [4][]byte
		if parts[0], parts[3] = c, p; i&1 != 0 {
			parts[0], parts[3] = p, c
		}
		if i%3 != 0 {
			parts[1] = s
		}
		if i%7 != 0 {
			parts[2] = p
		}
		c = sum(parts[:]...)
	}

	out := fmt.Appendf(nil, "$A$%03d$%s", rounds/1000, salt)
	i, j, k := 0, 10, 20
	for range 10 {
		out = append64(out, c[i], c[j], c[k], 4)
		i, j, k = k+1, i+1, j+1
	}
	return string(append64(out, 0, c[31], c[30], 3))
}

func sum(parts ...[]byte) []byte {
	h := sha256.New()
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

// stretch repeats block to a length.
func stretch(block []byte, length int) []byte {
	return bytes.Repeat(block, length/len(block)+1)[:length]
}

// append64 appends n characters for 24 bits, the lowest first.
func append64(out []byte, high, middle, low byte, n int) []byte {
	bits := uint(high)<<16 | uint(middle)<<8 | uint(low)
	for range n {
		out = append(out, "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[bits&63])
		bits >>= 6
	}
	return out
}
