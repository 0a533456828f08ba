package policy

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The first three are from the documentation of the command line, and from what
// the service answered others.
func TestAStatementsPlaceIsWhereTheServiceHasIt(t *testing.T) {
	for text, want := range map[string][]Span{
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"dynamodb:*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2018-08-16T12:00:00Z"}}}}`: {{Position{1, 38}, Position{1, 167}}},
		"{\n    \"Version\": \"2012-10-17\",\n    \"Statement\": [\n        {\n            \"Effect\": \"Allow\"\n        }\n    ]\n}":                                            {{Position{3, 19}, Position{6, 10}}},
		`{"Statement":[{"Effect":"Allow"}],"Version":"2012-10-17"}`:                                                                                                               {{Position{1, 15}, Position{1, 33}}},
		"{\"Id\":\"ü\",\"Statement\":[\n{},{}]}": {{Position{1, 24}, Position{2, 3}}, {Position{2, 3}, Position{2, 6}}},
		`{"Statement":[]}`:                       {},
	} {
		if _, got, err := ParsePlaced([]byte(text)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, expected %v", text, got, err, want)
		}
	}
}

// What a span has in it is its statement, whatever stands around it.
func TestASpanHoldsItsStatement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.StringMatching(`[ \t\n]{0,3}`)
		var parts, sids []string
		for i := range rapid.IntRange(0, 5).Draw(t, "statements") {
			sid := rapid.StringMatching(`[a-zäß]{0,4}`).Draw(t, "sid") + string(rune('A'+i))
			sids = append(sids, sid)
			parts = append(parts, space.Draw(t, "before")+`{`+space.Draw(t, "in")+`"Sid":"`+sid+`"`+space.Draw(t, "in")+`}`+space.Draw(t, "after"))
		}
		text := `{"Statement":` + space.Draw(t, "lead") + `[` + strings.Join(parts, ",") + `]}`
		d, spans, err := ParsePlaced([]byte(text))
		if err != nil || len(spans) != len(sids) {
			t.Fatalf("%d spans of %q: %v", len(spans), text, err)
		}
		lines := strings.Split(text, "\n")
		at := func(p Position) int {
			n := 0
			for _, l := range lines[:p.Line-1] {
				n += len(l) + 1
			}
			return n + len(string([]rune(lines[p.Line-1])[:p.Column-1]))
		}
		for i, s := range spans {
			within := text[at(s.Start):at(s.End)]
			if d.Statements[i].SID != sids[i] || !strings.HasSuffix(within, "}") || strings.Count(within, `"`+sids[i]+`"`) != 1 || strings.Count(within, "Sid") != 1 {
				t.Fatalf("statement %d of %q is %q", i, text, within)
			}
		}
	})
}

func TestMissingAreTheKeysThatARequestLacksAndStatementsAboutItNeed(t *testing.T) {
	d := parse(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"a:B","Resource":"arn:aws:s3:::${aws:UserName}/${s3:prefix, 'x'}","Condition":{"StringEquals":{"aws:SourceIp":"${aws:userid}"}}},
		{"Effect":"Allow","Action":"a:B","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"},"Null":{"x:known":"false"}}},
		{"Effect":"Deny","Action":"a:Other","Resource":"*","Condition":{"Bool":{"x:other":"true"}}}]}`)
	r := &Request{Action: "a:B", Resource: "r", Context: map[string][]string{"x:known": {"1"}}}
	if got := d.Missing(r); !slices.Equal(got, []string{"aws:SecureTransport", "aws:UserName", "s3:prefix"}) {
		t.Error(got)
	}
	r.Resource, r.Context = "arn:aws:s3:::ann/x", map[string][]string{"aws:username": {"ann"}}
	if got := d.Missing(r); !slices.Equal(got, []string{"aws:SecureTransport", "aws:SourceIp", "aws:userid", "s3:prefix", "x:known"}) {
		t.Error(got)
	}
	if got := d.Keys(); !slices.Equal(got, []string{"aws:SecureTransport", "aws:SourceIp", "aws:UserName", "aws:userid", "s3:prefix", "x:known", "x:other"}) {
		t.Error(got)
	}
	if got := d.Matching(r, Allow); got != nil {
		t.Error(got)
	}
	r.Context["aws:securetransport"], r.Context["x:known"] = []string{"true"}, []string{"1"}
	if got := d.Matching(r, Allow); !slices.Equal(got, []int{1}) {
		t.Error(got)
	}
}
