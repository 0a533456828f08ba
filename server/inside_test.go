package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// ask sends the meter a request of a container whose body has the announced
// size.
func ask(m *insideMeter, container string, size int64) int {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.RemoteAddr, r.ContentLength = container+":12345", size
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w.Code
}

func TestOneContainersRequestsHoldNoMoreThanItsPart(t *testing.T) {
	for _, size := range []int64{-1, 0, 6 << 20, insideMost, 1 << 40} {
		var m *insideMeter
		underWay, depth, most, other := int64(0), 0, 0, 0
		m = newInsideMeter(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.RemoteAddr == "b:12345" {
				other++
				return
			}
			depth++
			most = max(most, depth)
			underWay = max(underWay, m.all)
			ask(m, "a", size) // while this one is under way
			if depth == 1 && ask(m, "b", size) != http.StatusOK {
				t.Errorf("size %d: another container is refused, too", size)
			}
			depth--
		}))
		ask(m, "a", size)
		if underWay > insideEach || most < 1 || other != 1 {
			t.Errorf("size %d: %d requests of one container held %d bytes", size, most, underWay)
		}
		if m.all != 0 || len(m.held) != 0 {
			t.Errorf("size %d: afterwards %d bytes are held, by %v", size, m.all, m.held)
		}
	}
}

func TestAllContainersTogetherHoldNoMoreThanTheirPart(t *testing.T) {
	var m *insideMeter
	n, refused := 0, 0
	m = newInsideMeter(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n++; n < 100 && ask(m, fmt.Sprint("c", n), insideMost) == http.StatusTooManyRequests {
			refused++
		}
		if m.all > insideAll {
			t.Errorf("%d bytes are held", m.all)
		}
	}))
	ask(m, "c", insideMost)
	if n != int(insideAll/insideMost) || refused != 1 {
		t.Errorf("%d at once, %d refused", n, refused)
	}
}
