package main

import (
	"bytes"
	"os"
	"testing"
)

// TestDrawn finds a plot that is not of the figures beside it.
func TestDrawn(t *testing.T) {
	t.Parallel()
	figures, err := os.ReadFile("../scale.json")
	if err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadFile("../../docs/scale.svg")
	if err != nil {
		t.Fatal(err)
	}
	again, err := draw(figures)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(drawn, again) {
		t.Error("docs/scale.svg is not of bench/scale.json: go run ./bench/plot <bench/scale.json >docs/scale.svg")
	}
}
