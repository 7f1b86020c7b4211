package sensitive_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const text = "correct-horse-battery-staple"

type exported struct{ Value sensitive.String }

type unexported struct{ value sensitive.String }

type nested struct {
	inner   unexported
	pointer *sensitive.String
	list    []sensitive.String
	byName  map[string]sensitive.String
	any     any
}

// holders are things that hold a String in every way a program does.
func holders() map[string]any {
	s := sensitive.New(text)
	return map[string]any{
		"itself":               s,
		"a pointer":            &s,
		"a slice":              []sensitive.String{s},
		"an array":             [1]sensitive.String{s},
		"a map":                map[string]sensitive.String{"KEY": s},
		"a key of a map":       map[sensitive.String]int{s: 1},
		"an exported field":    exported{s},
		"a pointer to one":     &exported{s},
		"an unexported field":  unexported{s},
		"a pointer to that":    &unexported{s},
		"deep below":           nested{unexported{s}, &s, []sensitive.String{s}, map[string]sensitive.String{"KEY": s}, s},
		"a pointer to deep":    &nested{unexported{s}, &s, []sensitive.String{s}, map[string]sensitive.String{"KEY": s}, s},
		"a slice of any":       []any{s, &s, unexported{s}},
		"an error":             fmt.Errorf("wrong: %v %w", s, errors.New("cause")),
		"an anonymous struct":  struct{ a, B any }{s, s},
		"a function's closure": func() string { return s.Reveal() },
	}
}

// keepsSecret fails when out holds the text in any form a verb may give it.
func keepsSecret(t *testing.T, how, out string) {
	t.Helper()
	for _, form := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), fmt.Sprintf("% x", text), fmt.Sprint([]byte(text))} {
		if strings.Contains(out, strings.Trim(form, "[]")) {
			t.Errorf("%s shows the text", how)
		}
	}
}

func TestPrinting(t *testing.T) {
	t.Parallel()
	for name, holder := range holders() {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%+s", "%q", "%#q", "%x", "%X", "% x", "%d", "%c", "%U", "%b", "%o", "%t", "%e", "%p", "%T", "%8.3v"} {
			keepsSecret(t, name+" as "+verb, fmt.Sprintf(verb, holder))
		}
		keepsSecret(t, name+" by Sprint", fmt.Sprint(holder))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, sensitive.New(text)); got != "[sensitive]" {
			t.Errorf("%s gives %s", verb, got)
		}
	}
}

func TestEncoding(t *testing.T) {
	t.Parallel()
	for name, holder := range holders() {
		// That some of them cannot be encoded is as good.
		encoded, _ := json.Marshal(holder)
		keepsSecret(t, name+" as JSON", string(encoded))
		encoded, _ = xml.Marshal(holder)
		keepsSecret(t, name+" as XML", string(encoded))
	}
	encoded, err := json.Marshal(exported{sensitive.New(text)})
	if err != nil || string(encoded) != `{"Value":"[sensitive]"}` {
		t.Errorf("%s, %v", encoded, err)
	}
}

func TestLogging(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	loggers := map[string]func(holder any){
		"slog text":  func(holder any) { slog.New(slog.NewTextHandler(&out, nil)).Info("m", "k", holder) },
		"slog JSON":  func(holder any) { slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "k", holder) },
		"hclog text": func(holder any) { hclog.New(&hclog.LoggerOptions{Output: &out}).Info("m", "k", holder) },
		"hclog JSON": func(holder any) {
			hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: true}).Info("m", "k", holder)
		},
		"hclog With": func(holder any) { hclog.New(&hclog.LoggerOptions{Output: &out}).With("k", holder).Info("m") },
		"hclog quoted": func(holder any) {
			hclog.New(&hclog.LoggerOptions{Output: &out}).Info("m", "k", hclog.Fmt("%s", holder))
		},
	}
	for how, log := range loggers {
		for name, holder := range holders() {
			out.Reset()
			log(holder)
			if out.Len() == 0 {
				t.Errorf("%s of %s wrote nothing", how, name)
			}
			keepsSecret(t, how+" of "+name, out.String())
		}
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	for name, holder := range holders() {
		func() {
			defer func() { keepsSecret(t, "a panic with "+name, fmt.Sprint(recover())) }()
			panic(fmt.Sprint(holder))
		}()
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	const hidden = "***...***"
	for text, want := range map[string]string{
		"":                              hidden,
		"a":                             hidden,
		"abcdefghijklmnopqrs":           hidden, // 19
		"abcdefghijklmnopqrst":          "abc...***...",
		"abcdefghijklmnopqrstu":         "abc...***...",
		strings.Repeat("é", 19):         hidden, // 38 bytes
		"日本語" + strings.Repeat("é", 17): "日本語...***...",
	} {
		if got := sensitive.New(text).Mask(); got != want {
			t.Errorf("a text of %d bytes is masked as %s, want %s", len(text), got, want)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b sensitive.String
		want bool
	}{
		{sensitive.New("a"), sensitive.New("a"), true},
		{sensitive.New("a"), sensitive.New("b"), false},
		{sensitive.New("a"), sensitive.New("aa"), false},
		{sensitive.New(""), sensitive.String{}, true},
		{sensitive.New("a"), sensitive.String{}, false},
	} {
		if test.a.Equal(test.b) != test.want || test.b.Equal(test.a) != test.want {
			t.Errorf("texts of %d and %d bytes: want %v", test.a.Len(), test.b.Len(), test.want)
		}
	}
}

func TestZeroValue(t *testing.T) {
	t.Parallel()
	var s sensitive.String
	if s.Reveal() != "" || s.Len() != 0 || fmt.Sprint(s) != "[sensitive]" {
		t.Error("the zero value is not the empty text")
	}
	if s = sensitive.New(text); s.Reveal() != text || s.Len() != len(text) {
		t.Error("a text does not come back")
	}
}
