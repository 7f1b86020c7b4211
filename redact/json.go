package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

var errNotJSON = errors.New("the text is not JSON")

// JSON returns a JSON document, or several one after the other, redacted. It
// stays JSON of the same structure: what is redacted are the strings, names of
// members included, as they are when decoded, and numbers, which become strings.
// All else stays as it was written. A finding's range is the string or number.
func (s *Set) JSON(doc []byte) ([]byte, []Finding, error) {
	if !isJSON(doc) {
		return nil, nil, errNotJSON
	}
	var (
		out   bytes.Buffer
		inner bytes.Buffer
		found []Finding
		token Finding // the range of the token at hand
	)
	w := NewWriter(&inner, s, Options{OnFinding: func(f Finding) {
		f.Offset, f.Length = token.Offset, token.Length
		found = append(found, f)
	}})
	for at := 0; at < len(doc); {
		n := tokenLen(doc[at:])
		written := doc[at : at+n]
		token.Offset, token.Length = int64(at), n
		at += n
		text, ok := decoded(written)
		if !ok {
			out.Write(written)
			continue
		}
		before := len(found)
		w.whole(text)
		if len(found) == before {
			out.Write(written)
		} else {
			out.Write(encoded(inner.Bytes()))
		}
		inner.Reset()
	}
	return out.Bytes(), found, nil
}

// isJSON reports whether doc is JSON documents one after the other.
func isJSON(doc []byte) bool {
	d := json.NewDecoder(bytes.NewReader(doc))
	for {
		var next json.RawMessage
		if err := d.Decode(&next); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// tokenLen returns the length of the string or number that valid JSON begins
// with, else of what comes before the next one.
func tokenLen(doc []byte) int {
	switch {
	case doc[0] == '"':
		for i := 1; ; i++ {
			switch doc[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
	case inNumber(doc[0]):
		for i := range doc {
			if !inNumber(doc[i]) {
				return i
			}
		}
		return len(doc)
	}
	for i, b := range doc {
		if b == '"' || b == '-' || b >= '0' && b <= '9' {
			return i
		}
	}
	return len(doc)
}

func inNumber(b byte) bool {
	return b >= '0' && b <= '9' || b == '-' || b == '+' || b == '.' || b == 'e' || b == 'E'
}

// decoded returns the text that a string or a number stands for.
func decoded(token []byte) (text []byte, ok bool) {
	if token[0] != '"' {
		return token, token[0] == '-' || token[0] >= '0' && token[0] <= '9'
	}
	body := token[1 : len(token)-1]
	if bytes.IndexByte(body, '\\') < 0 || !utf8.Valid(body) {
		// Decoding would lose what is not UTF-8.
		return body, true
	}
	var s string
	if json.Unmarshal(token, &s) != nil {
		return body, true
	}
	return []byte(s), true
}

// encoded returns text as a JSON string.
func encoded(text []byte) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// A bytes.Buffer takes everything, and a string can be encoded.
	_ = e.Encode(string(text))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// whole redacts a text that nothing comes before or after.
func (w *Writer) whole(text []byte) {
	w.before, w.parser = [2]bool{}, 0
	_, _ = w.Write(text)
	_ = w.Close()
}
