package awsjson

import (
	"net/http/httptest"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

func TestAPageIsAsTheQuerySays(t *testing.T) {
	for query, want := range map[string]struct {
		n     int
		after string
		kind  hearth.Kind
	}{
		"":                              {100, "", ""},
		"?Max=7":                        {7, "", ""},
		"?Max=7&Next=" + Token("a b/ü"): {7, "a b/ü", ""},
		"?Max=0":                        {0, "", hearth.Validation},
		"?Max=101":                      {0, "", hearth.Validation},
		"?Max=x":                        {0, "", hearth.Validation},
		"?Next=%25%25":                  {0, "", hearth.Validation},
	} {
		n, after, err := (&Request{HTTP: httptest.NewRequest("GET", "/"+query, nil)}).Page("Max", "Next", 100)
		if n != want.n || after != want.after || hearth.KindOf(err) != want.kind {
			t.Errorf("%s: %d, %q, %v", query, n, after, err)
		}
	}
	if Token("") != "" {
		t.Error("the last page has a token")
	}
}

func TestABodyIsReadOrRefused(t *testing.T) {
	var in struct{ A int }
	for body, kind := range map[string]hearth.Kind{"": "", `{"A": 1}`: "", `{"A": "x"}`: hearth.Validation, "{": hearth.Validation} {
		if err := (&Request{Body: []byte(body)}).Read(&in); hearth.KindOf(err) != kind {
			t.Errorf("%q: %v", body, err)
		}
	}
}
