// Package chart draws what was measured, as SVG.
package chart

import (
	"fmt"
	"image/color"
	"os"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Lines is a chart of lines over two logarithmic axes.
type Lines struct {
	// Title stands above, X and Y beside the axes.
	Title, X, Y string
	// Lines are drawn in their order.
	Lines []Line
}

// Line is what one system did.
type Line struct {
	// Name stands in the legend.
	Name string
	// Points are in the order of their X.
	Points []Point
}

// Point is a median, and the range it lies in.
type Point struct{ X, Y, Least, Greatest float64 }

// palette is Okabe's and Ito's: those who see few colours tell these apart, too.
var palette = []color.RGBA{
	{0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
}

var shapes = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.BoxGlyph{}, draw.RingGlyph{}}

// Save draws the chart into a file.
func (c Lines) Save(name string) error {
	p, err := c.plot()
	if err != nil {
		return err
	}
	const width, height = 18 * vg.Centimeter, 11 * vg.Centimeter
	canvas := vgsvg.New(width, height)
	p.Draw(draw.New(canvas))
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := canvas.WriteTo(file); err != nil {
		return err
	}
	return file.Close()
}

func (c Lines) plot() (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = color.White
	for _, text := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		text.Font.Variant = "Sans"
	}
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	p.X.Tick.Marker = c.ticks()
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for i, line := range c.Lines {
		if err := line.add(p, i); err != nil {
			return nil, fmt.Errorf("%s: %w", line.Name, err)
		}
	}
	if len(c.Lines) == 0 {
		return nil, fmt.Errorf("there is nothing to draw")
	}
	// Logarithmic axes break at a single value, and a line at the edge is hard to see.
	p.X.Min, p.X.Max = p.X.Min/1.2, p.X.Max*1.2
	p.Y.Min, p.Y.Max = p.Y.Min/1.5, p.Y.Max*1.5
	return p, nil
}

// ticks stand where something was measured.
func (c Lines) ticks() plot.ConstantTicks {
	var at []float64
	for _, line := range c.Lines {
		for _, point := range line.Points {
			at = append(at, point.X)
		}
	}
	slices.Sort(at)
	var ticks plot.ConstantTicks
	for _, x := range slices.Compact(at) {
		ticks = append(ticks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'f', -1, 64)})
	}
	return ticks
}

// ranges are points with their ranges, as the plotter takes them.
type ranges struct {
	plotter.XYs
	plotter.YErrors
}

func (l Line) add(p *plot.Plot, number int) error {
	r := ranges{make(plotter.XYs, len(l.Points)), make(plotter.YErrors, len(l.Points))}
	for i, point := range l.Points {
		if point.X <= 0 || point.Y <= 0 || point.Least <= 0 {
			return fmt.Errorf("%v is not above zero", point)
		}
		r.XYs[i].X, r.XYs[i].Y = point.X, point.Y
		r.YErrors[i].Low, r.YErrors[i].High = point.Y-point.Least, point.Greatest-point.Y
	}
	line, points, err := plotter.NewLinePoints(r.XYs)
	if err != nil {
		return err
	}
	bars, err := plotter.NewYErrorBars(r)
	if err != nil {
		return err
	}
	paint := palette[number%len(palette)]
	line.Color, points.Color, bars.Color = paint, paint, paint
	line.Width, points.Shape, points.Radius = vg.Points(1.5), shapes[number%len(shapes)], vg.Points(3)
	p.Add(line, points, bars)
	p.Legend.Add(l.Name, line, points)
	return nil
}
