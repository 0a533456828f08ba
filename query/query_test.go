package query

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	hearth "github.com/hearth-faas/hearth"
)

type paging struct {
	Marker string
	Max    *int
}

type item struct {
	Key   string `query:"required"`
	Value *string
}

type input struct {
	Name  string `query:"required"`
	Yes   bool
	Names []string
	Items []item
	paging
}

// form is what an SDK sends of an input.
func (in *input) form() url.Values {
	f := url.Values{"Name": {in.Name}}
	if in.Yes {
		f.Set("Yes", "true")
	}
	if in.Marker != "" {
		f.Set("Marker", in.Marker)
	}
	if in.Max != nil {
		f.Set("Max", fmt.Sprint(*in.Max))
	}
	if in.Names != nil && len(in.Names) == 0 {
		f.Set("Names", "")
	}
	for i, n := range in.Names {
		f.Set(fmt.Sprintf("Names.member.%d", i+1), n)
	}
	for i, it := range in.Items {
		f.Set(fmt.Sprintf("Items.member.%d.Key", i+1), it.Key)
		if it.Value != nil {
			f.Set(fmt.Sprintf("Items.member.%d.Value", i+1), *it.Value)
		}
	}
	return f
}

func TestDecodeReadsWhatAnSDKWrote(t *testing.T) {
	text := rapid.StringN(1, 5, -1)
	rapid.Check(t, func(t *rapid.T) {
		in := input{
			Name: text.Draw(t, "name"), Yes: rapid.Bool().Draw(t, "yes"), paging: paging{Marker: rapid.String().Draw(t, "marker")},
			Names: rapid.SliceOfN(rapid.String(), 0, 12).Draw(t, "names"),
		}
		if rapid.Bool().Draw(t, "max?") {
			in.Max = new(rapid.IntRange(-1<<31, 1<<31-1).Draw(t, "max"))
		}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			it := item{Key: text.Draw(t, "key")}
			if rapid.Bool().Draw(t, "value?") {
				it.Value = new(rapid.String().Draw(t, "value"))
			}
			in.Items = append(in.Items, it)
		}
		parsed, err := url.ParseQuery(in.form().Encode())
		if err != nil {
			t.Fatal(err)
		}
		var got input
		if err := decode(parsed, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, in) {
			t.Fatalf("%+v became %+v", in, got)
		}
	})
}

func TestWhatIsNoNumberTruthOrBoundedListIsRefused(t *testing.T) {
	many := url.Values{}
	for i := range maxMembers + 1 {
		many.Set(fmt.Sprintf("Names.member.%d", i+1), "")
	}
	for want, form := range map[string]url.Values{
		"The value 'x' of the parameter Max is not an integer":     {"Max": {"x"}},
		"The value '1e3' of the parameter Max is not an integer":   {"Max": {"1e3"}},
		"The value '2' of the parameter Yes is not a truth value":  {"Yes": {"2"}},
		"The value '99999999999' of the parameter Max is not an i": {"Max": {"99999999999"}},
		"The list Names has more than 1000 members":                many,
	} {
		err := decode(form, new(input))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	members := Members{
		"Name": {Min: 2, Max: 4, Pattern: Pattern(`[a-z]+`), Message: "Letters, please."},
		"Max":  {Min: 1, Max: 10}, "Names": {Max: 2, Enum: []string{"A", "B"}}, "Key": {Max: 3}, "Marker": {Pattern: Pattern(`a|b`)},
	}
	for want, in := range map[string]input{
		"": {Name: "abc", paging: paging{Max: new(10)}, Names: []string{"A", "B"}},
		"1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null": {},
		"Letters, please.": {Name: "ABC"},
		"1 validation error detected: Value 'a' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 2":                                                                                                                 {Name: "a"},
		"1 validation error detected: Value 'ab' at 'marker' failed to satisfy constraint: Member must satisfy regular expression pattern: a|b":                                                                                                             {Name: "ab", paging: paging{Marker: "ab"}},
		"1 validation error detected: Value '0' at 'max' failed to satisfy constraint: Member must have value greater than or equal to 1":                                                                                                                   {Name: "ab", paging: paging{Max: new(0)}},
		"1 validation error detected: Value 'C' at 'names.1.member' failed to satisfy constraint: Member must satisfy enum value set: [A, B]":                                                                                                               {Name: "ab", Names: []string{"C"}},
		"1 validation error detected: Value '[A, A, A]' at 'names' failed to satisfy constraint: Member must have length less than or equal to 2":                                                                                                           {Name: "ab", Names: []string{"A", "A", "A"}},
		"1 validation error detected: Value null at 'items.1.member.key' failed to satisfy constraint: Member must not be null":                                                                                                                             {Name: "ab", Items: []item{{}}},
		"2 validation errors detected: Value 'ABCDE' at 'name' failed to satisfy constraint: Member must have length less than or equal to 4; Value 'ABCDE' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-z]+": {Name: "ABCDE"},
	} {
		err := members.check(&in)
		got := ""
		if e, ok := errors.AsType[*hearth.Error](err); ok {
			got = e.Message
		}
		if got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}

type output struct {
	Names List[string]
	At    Time
	Items List[item]
}

func testService(t testing.TB) *Service {
	return &Service{
		Name: "Test", Version: "1", Namespace: "http://test/",
		Beyond: Beyond("Test", "little", "Elsewhere"),
		Operations: map[string]Operation{
			"List": Serve(nil, func(_ context.Context, c *Call, in *input) (*output, error) {
				return &output{At: Time(time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)), Items: List[item]{{Key: in.Name}}}, nil
			}),
			"Nothing": Serve(nil, func(context.Context, *Call, *paging) (*Nothing, error) { return nil, nil }),
			"Fail":    Serve(nil, func(context.Context, *Call, *paging) (*Nothing, error) { return nil, errors.New("secret") }),
			"Refuse": Serve(nil, func(context.Context, *Call, *paging) (*Nothing, error) {
				return nil, hearth.Errorf(hearth.NoSuchEntity, "There is no <x>.")
			}),
		},
	}
}

func TestAServiceAnswersAsTheProtocolHasIt(t *testing.T) {
	s := testService(t)
	const end = `<ResponseMetadata><RequestId>id</RequestId></ResponseMetadata>`
	fault := func(who, code, message string) string {
		return `<ErrorResponse xmlns="http://test/"><Error><Type>` + who + `</Type><Code>` + code + `</Code><Message>` + message + `</Message></Error><RequestId>id</RequestId></ErrorResponse>`
	}
	for _, c := range []struct {
		form   string
		status int
		body   string
	}{
		{"Action=List&Version=1&Name=a%26b", 200, `<ListResponse xmlns="http://test/"><ListResult><Names></Names><At>2030-01-02T03:04:05Z</At><Items><member><Key>a&amp;b</Key></member></Items></ListResult>` + end + `</ListResponse>`},
		{"Action=Nothing", 200, `<NothingResponse xmlns="http://test/">` + end + `</NothingResponse>`},
		{"Action=Fail", 500, fault("Receiver", "InternalFailure", "An internal error occurred.")},
		{"Action=Refuse", 404, fault("Sender", "NoSuchEntity", "There is no &lt;x&gt;.")},
		{"Action=List", 400, fault("Sender", "ValidationError", "1 validation error detected: Value null at &#39;name&#39; failed to satisfy constraint: Member must not be null")},
		{"Action=List&Name=x&Yes=maybe", 400, fault("Sender", "MalformedInput", "The value &#39;maybe&#39; of the parameter Yes is not a truth value")},
		{"Action=Other", 400, fault("Sender", "InvalidAction", "Could not find operation Other for version 1")},
		{"Action=Elsewhere", 400, fault("Sender", "InvalidAction", "Test&#39;s operation Elsewhere is not built in this version of Hearth: it has little.")},
		{"Action=List&Version=2", 400, fault("Sender", "InvalidAction", "Could not find operation List for version 2")},
		{"", 400, fault("Sender", "MissingAction", "Missing Action")},
	} {
		form, err := url.ParseQuery(c.form)
		if err != nil {
			t.Fatal(err)
		}
		status, body, err := s.Serve(t.Context(), &Call{Form: form, RequestID: "id"})
		if status != c.status || string(body) != c.body || (err != nil) != (status != 200) {
			t.Errorf("%s: %d %v\n%s\n%s", c.form, status, err, body, c.body)
		}
	}
}

func FuzzService(f *testing.F) {
	f.Add("Action=List&Name=x&Names.member.1=a&Items.member.1.Key=k&Items.member.1.Value=v&Max=3&Yes=true")
	f.Add("Action=%ff&Names.member.=")
	s := testService(f)
	f.Fuzz(func(t *testing.T, text string) {
		form, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		status, body, err := s.Serve(t.Context(), &Call{Form: form})
		if (status == 200) != (err == nil) || xml.Unmarshal(body, new(struct{ XMLName xml.Name })) != nil {
			t.Errorf("%q: %d %v %s", text, status, err, body)
		}
		var in input
		if decode(form, &in) != nil {
			return
		}
		var again input
		if err := decode(in.form(), &again); err != nil || !reflect.DeepEqual(in.form(), again.form()) {
			t.Errorf("%q: %+v became %+v, %v", text, in, again, maps.Keys(form))
		}
	})
}
