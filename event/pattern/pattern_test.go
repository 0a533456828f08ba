package pattern

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// sample is the event of the service's manual, with a few fields more.
const sample = `{"version":"0","id":"6a7e8feb","detail-type":"EC2 Instance State-change Notification","source":"aws.ec2","account":"111122223333",
	"time":"2017-10-02T16:24:49Z","region":"us-west-1","resources":["arn:aws:ec2:us-east-1:1:instance/i-0","arn:aws:ec2:us-east-1:1:instance/i-1"],
	"detail":{"c-count":5,"d-count":3,"x-limit":301.8,"source-ip":"10.0.0.33","ip6":"2001:db8::7","state":"running","nothing":null,"empty":"","yes":true,
	"big":111122223333444,"far":6e9,"path":"dir/lib/a*b.png","service":"EventBridge","list":[],"object":{"k":1},"mixed":[1,"a",null,[true]],
	"items":[{"x":1,"y":1},{"x":2,"y":2,"z":[{"w":"q"}]},7],"esc\u0061ped\n":"\u0041\"b","K":"ſ"}}`

func TestDocumentedExamples(t *testing.T) {
	for _, c := range []struct {
		detail string // the pattern of detail
		want   bool
	}{
		// values
		{`{"state":["initializing","running"]}`, true},
		{`{"state":["Running"]}`, false},
		{`{"state":["runnin"]}`, false},
		{`{"c-count":[5]}`, true},
		{`{"c-count":["5"]}`, false},
		{`{"c-count":[5.0]}`, true},
		{`{"x-limit":[3.018e2]}`, true},
		{`{"x-limit":[301.80000001]}`, true},
		{`{"x-limit":[301.8001]}`, false},
		{`{"big":[111122223333444]}`, true},
		{`{"big":[111122223333444.0]}`, false},
		{`{"nothing":[null]}`, true},
		{`{"nothing":["null"]}`, false},
		{`{"state":[null]}`, false},
		{`{"absent":[null]}`, false},
		{`{"empty":[""]}`, true},
		{`{"nothing":[""]}`, false},
		{`{"yes":[true]}`, true},
		{`{"yes":["true"]}`, false},
		{`{"yes":[false]}`, false},
		// texts
		{`{"state":[{"prefix":"run"}]}`, true},
		{`{"state":[{"prefix":"Run"}]}`, false},
		{`{"state":[{"prefix":""}]}`, true},
		{`{"c-count":[{"prefix":""}]}`, false},
		{`{"state":[{"suffix":"ing"}]}`, true},
		{`{"state":[{"suffix":"in"}]}`, false},
		{`{"service":[{"prefix":{"equals-ignore-case":"eventb"}}]}`, true},
		{`{"service":[{"prefix":{"equals-ignore-case":"eventbridges"}}]}`, false},
		{`{"service":[{"suffix":{"equals-ignore-case":"TBRIDGE"}}]}`, true},
		{`{"service":[{"equals-ignore-case":"eventbridge"}]}`, true},
		{`{"service":[{"equals-ignore-case":"eventbridg"}]}`, false},
		{`{"path":[{"wildcard":"dir/*.png"}]}`, true},
		{`{"path":[{"wildcard":"dir/*/a\\*b.png"}]}`, true},
		{`{"path":[{"wildcard":"dir/*.jpg"}]}`, false},
		{`{"path":[{"wildcard":"*"}]}`, true},
		{`{"c-count":[{"wildcard":"*"}]}`, false},
		// anything but
		{`{"state":[{"anything-but":"initializing"}]}`, true},
		{`{"state":[{"anything-but":"running"}]}`, false},
		{`{"state":[{"anything-but":["stopped","running"]}]}`, false},
		{`{"x-limit":[{"anything-but":123}]}`, true},
		{`{"x-limit":[{"anything-but":[100,301.80]}]}`, false},
		{`{"state":[{"anything-but":3}]}`, true},
		{`{"nothing":[{"anything-but":"x"}]}`, true},
		{`{"absent":[{"anything-but":"x"}]}`, false},
		{`{"state":[{"anything-but":{"prefix":"init"}}]}`, true},
		{`{"state":[{"anything-but":{"prefix":["run","stop"]}}]}`, false},
		{`{"path":[{"anything-but":{"suffix":".png"}}]}`, false},
		{`{"path":[{"anything-but":{"suffix":[".jpg"]}}]}`, true},
		{`{"state":[{"anything-but":{"equals-ignore-case":"RUNNING"}}]}`, false},
		{`{"state":[{"anything-but":{"equals-ignore-case":["stopped","halted"]}}]}`, true},
		{`{"path":[{"anything-but":{"wildcard":"*/lib/*"}}]}`, false},
		{`{"path":[{"anything-but":{"wildcard":["*/bin/*","*/x/*"]}}]}`, true},
		// numbers
		{`{"c-count":[{"numeric":[">",0,"<=",5]}],"d-count":[{"numeric":["<",10]}],"x-limit":[{"numeric":["=",3.018e2]}]}`, true},
		{`{"c-count":[{"numeric":[">",5]}]}`, false},
		{`{"c-count":[{"numeric":[">=",5]}]}`, true},
		{`{"c-count":[{"numeric":["<",5]}]}`, false},
		{`{"state":[{"numeric":[">",0]}]}`, false},
		{`{"far":[{"numeric":[">",0]}]}`, false},
		// addresses
		{`{"source-ip":[{"cidr":"10.0.0.0/24"}]}`, true},
		{`{"source-ip":[{"cidr":"10.0.1.0/24"}]}`, false},
		{`{"ip6":[{"cidr":"2001:db8::/32"}]}`, true},
		{`{"ip6":[{"cidr":"10.0.0.0/8"}]}`, false},
		{`{"state":[{"cidr":"0.0.0.0/0"}]}`, false},
		// whether it is there
		{`{"c-count":[{"exists":true}]}`, true},
		{`{"c-count":[{"exists":false}]}`, false},
		{`{"nothing":[{"exists":true}]}`, true},
		{`{"absent":[{"exists":false}]}`, true},
		{`{"absent":{"deep":{"er":[{"exists":false}]}}}`, true},
		{`{"absent":{"deep":[{"exists":true}]}}`, false},
		{`{"object":[{"exists":true}]}`, false},
		{`{"object":[{"exists":false}]}`, true},
		{`{"list":[{"exists":true}]}`, false},
		{`{"list":[{"exists":false}]}`, true},
		{`{"state":{"inner":[{"exists":false}]}}`, true},
		{`{"absent":["x",{"exists":false}],"state":["running"]}`, true},
		// lists
		{`{"mixed":["a"]}`, true},
		{`{"mixed":[true]}`, true},
		{`{"mixed":[{"anything-but":"a"}]}`, true},
		{`{"items":{"x":[1],"y":[1]}}`, true},
		{`{"items":{"x":[1],"y":[2]}}`, false},
		{`{"items":{"x":[2],"z":{"w":["q"]}}}`, true},
		{`{"items":{"x":[1],"z":{"w":["q"]}}}`, false},
		{`{"items":{"x":[1],"z":{"w":[{"exists":false}]}}}`, false}, // a leaf z.w is somewhere in the event
		{`{"items":{"v":[{"exists":false}]}}`, true},
		{`{"items":[7]}`, true},
		// alternatives
		{`{"$or":[{"c-count":[9]},{"d-count":[{"numeric":["<",10]}]}]}`, true},
		{`{"$or":[{"c-count":[9]},{"d-count":[9]}]}`, false},
		{`{"state":["running"],"$or":[{"c-count":[5],"d-count":[9]},{"$or":[{"yes":[false]},{"empty":[""]}]}]}`, true},
		{`{"state":["stopped"],"$or":[{"c-count":[5]},{"d-count":[3]}]}`, false},
		{`{"$or":{"a":[{"exists":false}]}}`, true},
		// writing
		{`{"escaped\n":["A\"b"]}`, true},
		{`{"\u004b":[{"equals-ignore-case":"S"}]}`, true},
	} {
		p, err := Compile(`{"detail":` + c.detail + `}`)
		if err != nil {
			t.Errorf("%s: %v", c.detail, err)
			continue
		}
		if got := match(t, p, sample); got != c.want {
			t.Errorf("%s: %v", c.detail, got)
		}
	}
}

// match matches a text in both forms, which must agree.
func match(t interface {
	Helper()
	Fatalf(string, ...any)
}, p *Pattern, event string) bool {
	t.Helper()
	got, err := p.Match([]byte(event))
	if err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	d := json.NewDecoder(strings.NewReader(event))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v", err)
	}
	if again, err := p.MatchValue(v); err != nil || again != got {
		t.Fatalf("%s on %s: %v as text, %v, %v as a value", p, event, got, again, err)
	}
	return got
}

func TestWholeEvents(t *testing.T) {
	for pattern, want := range map[string]bool{
		`{"source":["aws.ec2"],"detail-type":["EC2 Instance State-change Notification"],"detail":{"state":["running"]}}`: true,
		`{"source":[{"prefix":""}]}`:                           true,
		`{"resources":[{"suffix":"i-1"}]}`:                     true,
		`{"resources":[{"suffix":"i-2"}]}`:                     false,
		`{"$or":[{"source":["x"]},{"detail":{"yes":[true]}}]}`: true,
		`{"account":[111122223333]}`:                           false,
		`{"detail":{"state":["running"],"$or":[{"c-count":[1]},{"d-count":[3]}]},"$or":[{"region":["x"]},{"region":[{"prefix":"us-"}]}]}`: true,
	} {
		p, err := Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := match(t, p, sample); got != want {
			t.Errorf("%s: %v", pattern, got)
		}
	}
	p, _ := Compile(`{"a":[1]}`)
	for _, bad := range []string{``, `[]`, `1`, `"x"`, `null`, `{"a":1`, `{"a":1}}`, ` `} {
		if got, err := p.Match([]byte(bad)); err == nil || got {
			t.Errorf("%q is an event", bad)
		}
	}
	if got := match(t, p, `{"a":2,"a":1}`); !got {
		t.Error("the last of two members of one name counts")
	}
	if got, err := p.MatchValue(map[string]any{"a": 1.0}); !got || err != nil {
		t.Errorf("%v, %v: a float64 is a number", got, err)
	}
	if _, err := p.MatchValue(map[string]any{"a": 1}); err == nil {
		t.Error("an int is nothing that JSON decodes to")
	}
}

func TestWrongPatternsSayWhereAndWhy(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 40) + `[1]` + strings.Repeat(`}`, 40)
	var or []string
	for range 32 {
		or = append(or, `{"a":[1]}`)
	}
	many := `"$or":[` + strings.Join(or, ",") + `]`
	for _, c := range []struct{ pattern, place, reason string }{
		{``, "", "no JSON"},
		{`{"a":}`, "", "byte 6"},
		{`[]`, "", "must be an object"},
		{`{"a":[1]} {}`, "", "something follows"},
		{`{"a":["` + strings.Repeat("x", MaxSize) + `"]}`, "", "limit is 4096"},
		{`{}`, "", "empty object"},
		{`{"a":{"b":{}}}`, "a.b", "empty object"},
		{`{"a":"b"}`, "a", `such as ["b"]`},
		{`{"a":[]}`, "a", "empty list"},
		{`{"a":[[1]]}`, "a[0]", "list in a list"},
		{`{"a":["x",{}]}`, "a[1]", "one member, not 0"},
		{`{"a":[{"prefix":"x","suffix":"y"}]}`, "a[0]", "one member, not 2"},
		{`{"a":[{"like":"y"}]}`, "a[0].like", "no such matcher"},
		{`{"a":[{"prefix":1}]}`, "a[0].prefix", "must be text"},
		{`{"a":[{"prefix":{"wildcard":"*"}}]}`, "a[0].prefix.wildcard", "only equals-ignore-case"},
		{`{"a":[{"exists":1}]}`, "a[0].exists", "true or false"},
		{`{"a":[{"numeric":[">"]}]}`, "a[0].numeric", "a comparison and a number"},
		{`{"a":[{"numeric":["?",1]}]}`, "a[0].numeric", "none of"},
		{`{"a":[{"numeric":[">","1"]}]}`, "a[0].numeric", "compare with a number"},
		{`{"a":[{"numeric":[">",1,">",2]}]}`, "a[0].numeric", "a range is"},
		{`{"a":[{"numeric":["<",5,">",2]}]}`, "a[0].numeric", "a range is"},
		{`{"a":[{"numeric":[">",5,"<",5]}]}`, "a[0].numeric", "nothing lies"},
		{`{"a":[{"numeric":["=",6e9]}]}`, "a[0].numeric", "between -5e9 and 5e9"},
		{`{"a":[{"anything-but":[]}]}`, "a[0].anything-but", "empty list"},
		{`{"a":[{"anything-but":["x",1]}]}`, "a[0].anything-but", "mixed"},
		{`{"a":[{"anything-but":[null]}]}`, "a[0].anything-but", "not null"},
		{`{"a":[{"anything-but":{"numeric":["=",1]}}]}`, "a[0].anything-but.numeric", "only prefix"},
		{`{"a":[{"anything-but":{"prefix":["x",""]}}]}`, "a[0].anything-but.prefix[1]", "nothing would match"},
		{`{"a":[{"anything-but":true}]}`, "a[0].anything-but", "must be"},
		{`{"a":[{"cidr":"10.0.0.0"}]}`, "a[0].cidr", "no network"},
		{`{"a":[{"wildcard":"a**b"}]}`, "a[0].wildcard", "side by side"},
		{`{"a":[{"wildcard":"a\\b"}]}`, "a[0].wildcard", "backslash"},
		{`{"$or":[{"a":[1]}]}`, "$or", "two alternatives"},
		{`{"$or":[1,2]}`, "$or[0]", "must be an object"},
		{`{"$or":[{"a":[1]},{"prefix":["x"]}]}`, "$or[1].prefix", "matcher's name"},
		{`{` + many + `,"b":{` + many + `}}`, "", "combinations"},
		{deep, strings.TrimSuffix(strings.Repeat("a.", 33), "."), "32 deep"},
	} {
		_, err := Compile(c.pattern)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.60s: %v", c.pattern, err)
			continue
		}
		if e.Place != c.place || !strings.Contains(e.Reason, c.reason) {
			t.Errorf("%.60s: %q: %s", c.pattern, e.Place, e.Reason)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	p, err := Compile(`{"source":["aws.ec2"],"detail":{"state":["running"],"c-count":[{"numeric":[">",0]}],"path":[{"wildcard":"*/lib/*.png"}]}}`)
	if err != nil {
		b.Fatal(err)
	}
	event := []byte(sample)
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := p.Match(event); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
