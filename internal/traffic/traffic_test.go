package traffic

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestRequestsAreCountedByTheirLabels(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	c := New(r, "x", "things", "integration", "api", "stage")
	c.Add("1", Key{"a", "s"}, 200, time.Second, time.Millisecond)
	c.Add("1", Key{"a", "s"}, 204, time.Second, 0)
	c.Add("1", Key{"a", "s"}, 503, time.Second, time.Millisecond)
	c.Add("2", Key{"b", ""}, 404, time.Second, 0)
	const want = `# HELP hearth_x_requests_total Requests of things, by the class of their status.
# TYPE hearth_x_requests_total counter
hearth_x_requests_total{api="a",code="2xx",stage="s"} 2
hearth_x_requests_total{api="a",code="5xx",stage="s"} 1
hearth_x_requests_total{api="b",code="4xx",stage=""} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "hearth_x_requests_total"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]int{"hearth_x_request_seconds": 2, "hearth_x_integration_seconds": 1} {
		if n, err := testutil.GatherAndCount(r, name); n != want || err != nil {
			t.Errorf("%s has %d labels, want %d (%v)", name, n, want, err)
		}
	}
	c.Forget("1", func(k Key) bool { return k[0] == "a" })
	if n, err := testutil.GatherAndCount(r); n != 2 || err != nil {
		t.Errorf("%d series are left of one API, want 2 (%v)", n, err)
	}
}

// No account fills the page, nor takes what another one needs.
func TestLabelsAreBounded(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	c := New(r, "x", "things", "integration", "api")
	var all sync.WaitGroup
	for account := range 10 {
		all.Go(func() {
			for n := range 2 * maxOwn {
				c.Add(fmt.Sprint(account), Key{fmt.Sprint(account, "-", n)}, 200, time.Second, 0)
			}
		})
	}
	all.Wait()
	if n, err := testutil.GatherAndCount(r, "hearth_x_requests_total"); n != maxSeries+1 || err != nil {
		t.Errorf("%d labels, want %d and one for all others (%v)", n, maxSeries, err)
	}
	for account := range 10 {
		if n := len(c.own[fmt.Sprint(account)]); n > maxOwn {
			t.Errorf("an account has %d labels of its own", n)
		}
		c.Forget(fmt.Sprint(account), func(Key) bool { return true })
	}
	if c.have != 0 || len(c.own) != 0 {
		t.Errorf("%d labels are kept of what was forgotten", c.have)
	}
	c.Add("late", Key{"late"}, 200, time.Second, 0)
	if n, err := testutil.GatherAndCount(r, "hearth_x_requests_total"); n != 2 || err != nil {
		t.Errorf("%d labels, want that of the late one and the others' (%v)", n, err)
	}
}
