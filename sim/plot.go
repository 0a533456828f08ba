package sim

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// colors of the lines in a plot, in the order of Comparison.Lines. They can be
// told apart by those who do not see all colours.
var colors = []string{"#999999", "#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7"}

const (
	plotWidth, plotHeight = 860, 560
	plotLeft, plotRight   = 80, 30
	plotTop, plotBottom   = 50, 60
	labelX, labelY        = 560, 70
	plotTitle             = "Waiting memory against cold starts"
	titleX                = "invocations that found no container ready, %"
	titleY                = "memory-time of waiting, GiB·h"
)

// axes places values on a plot: both axes are logarithmic.
type axes struct{ x0, x1, y0, y1 float64 } // exponents of ten

// axes finds whole powers of ten around all that is plotted.
func (c *Comparison) axes() axes {
	a := axes{math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if p.Cold > 0 && p.Wasted > 0 {
				x, y := math.Log10(100*p.Cold), math.Log10(gibHours(p.Wasted))
				a.x0, a.x1 = min(a.x0, math.Floor(x)), max(a.x1, math.Ceil(x))
				a.y0, a.y1 = min(a.y0, math.Floor(y)), max(a.y1, math.Ceil(y))
			}
		}
	}
	if a.x0 > a.x1 { // nothing at all
		a = axes{0, 2, 0, 2}
	}
	a.y0 = max(a.y0, a.y1-4) // an oracle's smallest is no news
	a.x1, a.y1 = max(a.x1, a.x0+1), max(a.y1, a.y0+1)
	return a
}

// place is where a point is; false if it is not on the plot.
func (a axes) place(p Point) (x, y float64, ok bool) {
	if p.Cold <= 0 || p.Wasted <= 0 {
		return 0, 0, false
	}
	fx := (math.Log10(100*p.Cold) - a.x0) / (a.x1 - a.x0)
	fy := (math.Log10(gibHours(p.Wasted)) - a.y0) / (a.y1 - a.y0)
	return plotLeft + fx*(plotWidth-plotLeft-plotRight), plotHeight - plotBottom - fy*(plotHeight-plotTop-plotBottom), fy >= 0
}

// powers are the powers of ten from one exponent to another.
func powers(from, to float64) (p []float64) {
	for e := from; e <= to; e++ {
		p = append(p, e)
	}
	return p
}

// WriteSVG draws the frontiers, as SVG.
func (c *Comparison) WriteSVG(w io.Writer) error {
	a := c.axes()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="28" font-size="17">%s</text>`+"\n", plotLeft, plotTitle)
	for _, e := range powers(a.x0, a.x1) {
		x, _, _ := a.place(Point{Cold: math.Pow(10, e) / 100, Wasted: math.Pow(10, a.y0) * 1024 * 3600})
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, plotTop, plotHeight-plotBottom, x, plotHeight-plotBottom+18, tickLabel(e))
	}
	for _, e := range powers(a.y0, a.y1) {
		_, y, _ := a.place(Point{Cold: math.Pow(10, a.x0) / 100, Wasted: math.Pow(10, e) * 1024 * 3600})
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, y, plotWidth-plotRight, plotLeft-8, y+4, tickLabel(e))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text><text transform="translate(22 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		(plotLeft+plotWidth-plotRight)/2, plotHeight-16, titleX, (plotTop+plotHeight-plotBottom)/2, titleY)
	for i, l := range c.Lines {
		rgb, path, command := colors[i], "", "M"
		for _, p := range thin(l.Points) {
			x, y, ok := a.place(p)
			if !ok {
				continue
			}
			path += fmt.Sprintf("%s%.1f %.1f", command, x, y)
			command = "L"
			if !l.Oracle() {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x, y, rgb)
			}
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/><path d="M%d %d h24" stroke="%s" stroke-width="3"/><text x="%d" y="%d">%s</text>`+"\n",
			path, rgb, labelX, labelY+20*i, rgb, labelX+32, labelY+20*i+4, html.EscapeString(l.Policy))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func tickLabel(exponent float64) string { return fmt.Sprintf("%g", math.Pow(10, exponent)) }
