package sizing

import (
	"errors"
	"math"
)

// histogram counts values between least and its last bucket's edge, each
// bucket wider than the last by the same ratio, so that the error of a
// quantile is the same share of it everywhere. When it holds window values all
// counts are halved: what was seen lately counts for more, and a count needs
// two bytes.
type histogram struct {
	shape *shape
	n     int
	count []uint16
}

// shape is where a histogram's buckets lie.
type shape struct {
	least   float64
	perOct  int // buckets between a value and its double; divides len(steps)
	buckets int
}

// window is how many values a histogram holds before it forgets half of each.
const window = 1024

var (
	// memoryShape is in MiB, 1 to 16 GiB, each bucket 9 % wider.
	memoryShape = &shape{1, 8, 8 * 14}
	// timeShape is in seconds, 1 ms to 18 minutes, each bucket 19 % wider.
	timeShape = &shape{0.001, 4, 4 * 20}
	// coresShape is in processors, 1/256 to 64, each bucket 19 % wider.
	coresShape = &shape{1.0 / 256, 4, 4 * 14}
)

// bucket is where a value belongs: the first whose upper edge is not below it.
// A logarithm would do, and takes ten times as long.
func (s *shape) bucket(v float64) int {
	v /= s.least
	if !(v > 1) {
		return 0
	}
	bits := math.Float64bits(v)
	octave, rest := int(bits>>52)-1023, math.Float64frombits(bits&(1<<52-1)|1023<<52) // v is rest × 2^octave
	i := 0
	for i < s.perOct && rest > steps[i*(len(steps)/s.perOct)] {
		i++
	}
	return min(octave*s.perOct+i, s.buckets-1)
}

// edge is the most that a value of the bucket can be.
func (s *shape) edge(i int) float64 {
	return math.Ldexp(s.least*steps[i%s.perOct*(len(steps)/s.perOct)], i/s.perOct)
}

// steps are the eighths of an octave.
var steps = func() (all [8]float64) {
	for i := range all {
		all[i] = math.Exp2(float64(i) / float64(len(all)))
	}
	return all
}()

// add counts a value, and reports whether that halved the counts. It allocates
// once in the histogram's life.
func (h *histogram) add(s *shape, v float64) (halved bool) {
	if h.count == nil {
		h.shape, h.count = s, make([]uint16, s.buckets)
	}
	h.count[h.shape.bucket(v)]++
	if h.n++; h.n < window {
		return false
	}
	h.halve()
	return true
}

func (h *histogram) halve() {
	h.n = 0
	for i, c := range h.count {
		h.count[i] = c / 2
		h.n += int(c / 2)
	}
}

// quantile is what at least the share q of the values do not exceed: the upper
// edge of a bucket. Zero without values.
func (h *histogram) quantile(q float64) float64 {
	if h.n == 0 {
		return 0
	}
	need := max(int(math.Ceil(q*float64(h.n))), 1)
	for i, c := range h.count {
		if need -= int(c); need <= 0 {
			return h.shape.edge(i)
		}
	}
	return h.shape.edge(len(h.count) - 1)
}

// record is a histogram on disk: the counts from a bucket on, without the
// zeros at either end.
type record struct {
	From  int      `json:"from"`
	Count []uint16 `json:"count"`
}

// record returns what is to be kept; nil of nothing.
func (h *histogram) record() *record {
	from, to := 0, len(h.count)
	for from < to && h.count[from] == 0 {
		from++
	}
	for to > from && h.count[to-1] == 0 {
		to--
	}
	if from == to {
		return nil
	}
	return &record{from, h.count[from:to]}
}

// restore takes what was kept.
func (h *histogram) restore(s *shape, r *record) error {
	*h = histogram{}
	if r == nil {
		return nil
	}
	if r.From < 0 || r.From > s.buckets || len(r.Count) > s.buckets-r.From {
		return errors.New("sizing: a histogram has buckets that there are not")
	}
	h.shape, h.count = s, make([]uint16, s.buckets)
	copy(h.count[r.From:], r.Count)
	for _, c := range h.count {
		h.n += int(c)
	}
	for h.n >= window {
		h.halve()
	}
	return nil
}
