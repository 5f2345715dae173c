package demo

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
)

// icon draws the sample app's icon: three waves running down, in a colour that
// changes with the version.
func icon(size, version int) ([]byte, error) {
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	hue := uint8(60 * (version % 4))
	for y := range size {
		for x := range size {
			u, v := float64(x)/float64(size), float64(y)/float64(size)
			wave := 0.5 + 0.5*math.Sin(2*math.Pi*(3*v+0.12*math.Sin(2*math.Pi*u)))
			img.SetNRGBA(x, y, color.NRGBA{R: hue, G: uint8(90 + 100*wave), B: uint8(150 + 100*wave), A: 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("draw icon: %w", err)
	}
	return b.Bytes(), nil
}
