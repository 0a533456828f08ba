package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// ask sends a request of a container whose body has the announced
// size.
func ask(m *budget, container string, size int64) int {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.RemoteAddr, r.ContentLength = container+":12345", size
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w.Code
}

func TestOneContainersRequestsHoldNoMoreThanItsPart(t *testing.T) {
	for _, size := range []int64{-1, 0, 6 << 20, mostBody, 1 << 40} {
		var m *budget
		underWay, depth, most, other := int64(0), 0, 0, 0
		m = newBudget(insideBodies, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.RemoteAddr == "b:12345" {
				other++
				return
			}
			depth++
			most = max(most, depth)
			underWay = max(underWay, m.sum)
			ask(m, "a", size) // while this one is under way
			if depth == 1 && ask(m, "b", size) != http.StatusOK {
				t.Errorf("size %d: another container is refused, too", size)
			}
			depth--
		}))
		ask(m, "a", size)
		if underWay > insideBodies.each || most < 1 || other != 1 {
			t.Errorf("size %d: %d requests of one container held %d bytes", size, most, underWay)
		}
		if m.sum != 0 || len(m.held) != 0 {
			t.Errorf("size %d: afterwards %d bytes are held, by %v", size, m.sum, m.held)
		}
	}
}

func TestAllContainersTogetherHoldNoMoreThanTheirPart(t *testing.T) {
	var m *budget
	n, refused := 0, 0
	m = newBudget(insideBodies, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n++; n < 100 && ask(m, fmt.Sprint("c", n), mostBody) == http.StatusTooManyRequests {
			refused++
		}
		if m.sum > insideBodies.all {
			t.Errorf("%d bytes are held", m.sum)
		}
	}))
	ask(m, "c", mostBody)
	if n != int(insideBodies.all/mostBody) || refused != 1 {
		t.Errorf("%d at once, %d refused", n, refused)
	}
}
