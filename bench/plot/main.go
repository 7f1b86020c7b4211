// Command plot draws the figures of scale, which it reads as JSON from its
// standard input, as an SVG.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"strings"

	"github.com/agentchains/vault-plugin-secrets-agentchains/bench/table"
)

// report is what is drawn of the figures.
type report struct {
	Axes []struct {
		What  string `json:"what"`
		Sizes []struct {
			Size       int   `json:"size"`
			Heap       int64 `json:"plugin_live_heap"`
			Plugin     int64 `json:"plugin_resident"`
			Vault      int64 `json:"vault_resident"`
			Operations []struct {
				Operation string  `json:"operation"`
				Ratio     float64 `json:"ratio"`
			} `json:"operations"`
		} `json:"sizes"`
	} `json:"axes"`
}

func main() {
	figures, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	drawn, err := draw(figures)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(drawn); err != nil {
		log.Fatal(err)
	}
}

// In pixels. The room around a panel is for its title, key and labels.
const (
	panelWidth, panelHeight = 310, 190
	left, right             = 55, 35
	above, below            = 55, 45
)

// line is a measured quantity by size.
type line struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// scale says where a figure is on an axis, from 0 to 1, and which have a label.
type scale struct {
	at    func(float64) float64
	ticks []tick
}

type tick struct {
	value float64
	label string
}

// logarithmic has ticks at powers of ten.
func logarithmic(from, to float64) scale {
	s := scale{at: func(v float64) float64 { return math.Log(v/from) / math.Log(to/from) }}
	for v := from; v <= to; v *= 10 {
		s.ticks = append(s.ticks, tick{v, table.Thousands(int(v))})
	}
	return s
}

// linear begins at 0 and has ticks at halves.
func linear(to float64) scale {
	s := scale{at: func(v float64) float64 { return v / to }}
	for v := 0.0; v <= to; v += 0.5 {
		s.ticks = append(s.ticks, tick{v, fmt.Sprintf("%.1f", v)})
	}
	return s
}

// draw returns a row of two panels for each axis of at least two sizes.
func draw(figures []byte) ([]byte, error) {
	var r report
	if err := json.Unmarshal(figures, &r); err != nil {
		return nil, err
	}
	const panel, row = left + panelWidth + right, above + panelHeight + below
	var rows bytes.Buffer
	height := 0
	for _, a := range r.Axes {
		if len(a.Sizes) < 2 {
			continue
		}
		sizes := logarithmic(float64(a.Sizes[0].Size), float64(a.Sizes[len(a.Sizes)-1].Size))
		memory := []line{{name: "live heap of the plugin"}, {name: "resident, plugin"}, {name: "resident, Vault"}}
		var speeds []line
		fastest := 1.5
		for _, s := range a.Sizes {
			x := float64(s.Size)
			for i, n := range []int64{s.Heap, s.Plugin, s.Vault} {
				memory[i].points = append(memory[i].points, point{x, float64(n) / (1 << 20)})
			}
			for i, o := range s.Operations {
				if i == len(speeds) {
					speeds = append(speeds, line{name: o.Operation})
				}
				speeds[i].points = append(speeds[i].points, point{x, o.Ratio})
				fastest = max(fastest, math.Ceil(2*o.Ratio)/2)
			}
		}
		fmt.Fprintf(&rows, "<g transform=\"translate(%d %d)\">\n", left, height+above)
		drawPanel(&rows, "operations in one second, beside the smallest", a.What, speeds, sizes, linear(fastest), true)
		fmt.Fprintf(&rows, "</g>\n<g transform=\"translate(%d %d)\">\n", panel+left, height+above)
		drawPanel(&rows, "memory, MiB", a.What, memory, sizes, logarithmic(1, 10_000), false)
		fmt.Fprintln(&rows, "</g>")
		height += row
	}
	head := fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n"+
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", 2*panel, height)
	return append([]byte(head), append(rows.Bytes(), "</svg>\n"...)...), nil
}

// colours that the colour-blind can tell apart.
const (
	blue, orange, green, purple = "#0072b2", "#d55e00", "#009e73", "#aa4499"
)

// drawPanel draws lines with their key. A panel of ratios shows what is within 20 %
// of 1 as well.
func drawPanel(w io.Writer, title, what string, lines []line, x, y scale, ratios bool) {
	at := func(p point) (float64, float64) { return panelWidth * x.at(p.x), panelHeight * (1 - y.at(p.y)) }
	fmt.Fprintf(w, "<text y=\"-38\" font-weight=\"bold\">%s</text>\n", title)
	if ratios {
		_, top := at(point{1, 1.20})
		_, bottom := at(point{1, 1 / 1.20})
		fmt.Fprintf(w, "<rect y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"#eee\"/>\n", top, panelWidth, bottom-top)
	}
	for _, t := range y.ticks {
		down := panelHeight * (1 - y.at(t.value))
		fmt.Fprintf(w, "<path d=\"M0 %.1fh%d\" stroke=\"#ccc\"/><text x=\"-8\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", down, panelWidth, down+4, t.label)
	}
	for _, t := range x.ticks {
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", panelWidth*x.at(t.value), panelHeight+17, t.label)
	}
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", panelWidth/2, panelHeight+33, what)
	colours := []string{blue, orange, green, purple}
	for i, l := range lines {
		colour := colours[i%len(colours)]
		// The key has two columns above the panel.
		fmt.Fprintf(w, "<g fill=\"%s\"><text x=\"%d\" y=\"%d\">%s</text>", colour, i%2*panelWidth/2, -22+i/2*14, l.name)
		var path strings.Builder
		for j, p := range l.points {
			cx, cy := at(p)
			fmt.Fprintf(w, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", cx, cy)
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], cx, cy)
		}
		fmt.Fprintf(w, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/></g>\n", &path, colour)
	}
}
