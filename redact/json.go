package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"unicode/utf8"
)

var errNotJSON = errors.New("the text is not JSON")

// JSON returns a JSON document, or several one after the other, redacted. It
// stays JSON of the same structure: what is redacted are the strings, names of
// members included, as they are when decoded, and numbers, which become strings.
// All else stays as it was written. A finding's range is the string or number;
// with All, one in which a rule finds a key is redacted whole.
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
	hints := s.hints(doc)
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
		for len(hints) > 0 && hints[0].end <= at-n {
			hints = hints[1:]
		}
		before := len(found)
		w.whole(text)
		switch {
		case slices.ContainsFunc(found[before:], func(f Finding) bool { return f.Redacted }):
			written = encoded(inner.Bytes())
		case len(found) == before && len(hints) > 0 && hints[0].start < at:
			// Told by what stands around the string, such as the name of the member.
			f := Finding{Name: hints[0].by.name, Encoding: byFormat.String(), Offset: token.Offset, Length: n, Redacted: s.formats == All && hints[0].by.owners != nil}
			found = append(found, f)
			if f.Redacted {
				written = []byte(`"[REDACTED:` + f.Name + `]"`)
			}
		}
		out.Write(written)
		inner.Reset()
	}
	return out.Bytes(), found, nil
}

// hints finds what rules find in a whole text.
func (s *Set) hints(text []byte) []hint {
	var (
		all   []hint
		ruler ruler
	)
	for at := 0; s.formats != 0 && at < len(text); {
		end := lineEnd(text, at, at, true)
		for _, h := range ruler.find(text[at:end]) {
			all = append(all, hint{at + h.start, at + h.end, h.by})
		}
		at = end
	}
	return all
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
