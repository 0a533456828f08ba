package policy

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func parse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

func TestADocumentIsWrittenAsTheServiceWritesIt(t *testing.T) {
	for given, want := range map[string]string{
		`{"Statement":{"Action":["lambda:InvokeFunction"],"Principal":{"AWS":["111111111111"]},"Resource":["arn:aws:lambda:us-east-1:000000000000:function:f"],"Effect":"Allow","Sid":"s"},"Id":"default","Version":"2012-10-17"}`: `{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:000000000000:function:f"}]}`,
		`{"Statement":[{"Effect":"Deny","Principal":"*","NotAction":["a:B","a:C"],"NotResource":"*","Condition":{"StringLike":{"b":["<x>","y"],"a":"&"},"Bool":{"aws:SecureTransport":false},"NumericLessThan":{"n":[1,2.50]}}}]}`: `{"Statement":[{"Effect":"Deny","Principal":"*","NotAction":["a:B","a:C"],"NotResource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"},"NumericLessThan":{"n":["1","2.50"]},"StringLike":{"a":"&","b":["<x>","y"]}}}]}`,
		`{"Statement":[{"Effect":"Allow","NotPrincipal":{"Service":"s3.amazonaws.com","Federated":"x","CanonicalUser":"abc"},"Action":[],"Resource":"*"}]}`:                                                                        `{"Statement":[{"Effect":"Allow","NotPrincipal":{"Service":"s3.amazonaws.com","Federated":"x","CanonicalUser":"abc"},"Resource":"*"}]}`,
		`{}`: `{"Statement":[]}`,
	} {
		if got := parse(t, given).String(); got != want {
			t.Errorf("%s\nis written\n%s\nand not\n%s", given, got, want)
		}
	}
}

func TestWhatIsNotOfTheLanguagesFormIsRefused(t *testing.T) {
	for given, want := range map[string]string{
		``:                                     "This policy contains invalid Json",
		`{`:                                    "This policy contains invalid Json",
		`{} {}`:                                "This policy contains invalid Json",
		`"x"`:                                  "Syntax errors in policy. The policy must be an object.",
		`[]`:                                   "Syntax errors in policy. The policy must be an object.",
		`null`:                                 "Syntax errors in policy. The policy must be an object.",
		`{"Foo":1}`:                            "Syntax errors in policy. There is no element Foo.",
		`{"statement":[]}`:                     "Syntax errors in policy. There is no element statement.",
		`{"Version":1}`:                        "Syntax errors in policy. Version must be a string.",
		`{"Id":"a","Id":"b"}`:                  "Syntax errors in policy. The policy has the member Id twice.",
		`{"Statement":"x"}`:                    "Syntax errors in policy. A statement must be an object.",
		`{"Statement":[[]]}`:                   "Syntax errors in policy. A statement must be an object.",
		`{"Statement":{"effect":"Allow"}}`:     "Syntax errors in policy. There is no element effect in a statement.",
		`{"Statement":{"Action":1}}`:           "Syntax errors in policy. Action must be a string or a list of strings.",
		`{"Statement":{"Action":["a",["b"]]}}`: "Syntax errors in policy. Action must be a string or a list of strings.",
		`{"Statement":{"Principal":"123"}}`:    "Syntax errors in policy. Principal must be \"*\" or an object.",
		`{"Statement":{"Principal":{"User":"x"}}}`:                 "Syntax errors in policy. There is no sort of principals User.",
		`{"Statement":{"Condition":{"Like":{}}}}`:                  "Syntax errors in policy. There is no condition operator Like.",
		`{"Statement":{"Condition":{"NullIfExists":{}}}}`:          "Syntax errors in policy. There is no condition operator NullIfExists.",
		`{"Statement":{"Condition":{"ForSome:StringLike":{}}}}`:    "Syntax errors in policy. There is no condition operator ForSome:StringLike.",
		`{"Statement":{"Condition":{"StringLike":"x"}}}`:           "Syntax errors in policy. StringLike must be an object.",
		`{"Statement":{"Condition":{"StringLike":{"a":null}}}}`:    "Syntax errors in policy. a must be a string or a list of strings.",
		`{"Statement":{"Condition":{"StringLike":{"a":[{}]}}}}`:    "Syntax errors in policy. a must be a string or a list of strings.",
		`{"Statement":{"Condition":{"StringLike":{"a":1,"a":2}}}}`: "Syntax errors in policy. StringLike has the member a twice.",
	} {
		if _, err := Parse([]byte(given)); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nand not %s", given, err, want)
		}
	}
}

func TestADocumentIsCheckedAsWhatItIsAttachedTo(t *testing.T) {
	const rest = `"Effect":"Allow","Action":"lambda:InvokeFunction"`
	for _, c := range []struct {
		kind            Kind
		statement, want string
	}{
		{Resource, rest + `,"Principal":"*","Resource":"*"`, ""},
		{Resource, rest + `,"Principal":{"AWS":["*","arn:aws:iam::111111111111:user/a/b","arn:aws:sts::111111111111:assumed-role/r/s","AROAEXAMPLEEXAMPLE123"]},"Resource":"arn:aws:*"`, ""},
		{Resource, rest + `,"Resource":"*"`, "Missing required field Principal"},
		{Resource, rest + `,"Principal":"*"`, "Policy statement must contain resources."},
		{Resource, rest + `,"Principal":{},"Resource":"*"`, "Missing required field Principal cannot be empty!"},
		{Resource, rest + `,"Principal":{"AWS":"arn:aws:iam::111111111111:user/*"},"Resource":"*"`, `Invalid principal in policy: "AWS":"arn:aws:iam::111111111111:user/*"`},
		{Resource, rest + `,"Principal":{"AWS":"me"},"Resource":"*"`, `Invalid principal in policy: "AWS":"me"`},
		{Resource, rest + `,"Principal":{"Service":"s3"},"Resource":"*"`, `Invalid principal in policy: "SERVICE":"s3"`},
		{Resource, rest + `,"Principal":"*","NotPrincipal":"*","Resource":"*"`, "Syntax errors in policy. A statement has Principal or NotPrincipal, not both."},
		{Resource, rest + `,"Principal":"*","Resource":"*","NotResource":"*"`, "Syntax errors in policy. A statement has Resource or NotResource, not both."},
		{Resource, rest + `,"Principal":"*","Resource":"*","NotAction":"*"`, "Syntax errors in policy. A statement has Action or NotAction, not both."},
		{Resource, rest + `,"Principal":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"here"}}`, `Syntax errors in policy. "here" is no value for the condition IpAddress.`},
		{Resource, rest + `,"Principal":"*","Resource":"*","Condition":{"StringLike":{"a":[]}}`, `Syntax errors in policy. The condition StringLike has no value for a.`},
		{Resource, `"Action":"*","Principal":"*","Resource":"*"`, "Syntax errors in policy. A statement must have an Effect."},
		{Resource, `"Effect":"allow","Action":"*","Principal":"*","Resource":"*"`, `Syntax errors in policy. "allow" is no Effect.`},
		{Identity, rest + `,"Resource":["*","arn:aws:lambda:*:*:function:*"]`, ""},
		{Identity, rest + `,"Resource":"*","Principal":"*"`, "Policy document should not specify a principal."},
		{Identity, rest + `,"Resource":[]`, "Policy statement must contain resources."},
		{Identity, rest + `,"Resource":"f"`, `Resource f must be in ARN format or "*".`},
		{Identity, rest + `,"Resource":"arn:b:c:d:e:f"`, `Partition "b" is not valid for resource "arn:b:c:d:e:f".`},
		{Identity, rest + `,"Resource":"*","Sid":"a b"`, "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"},
		{Identity, `"Effect":"Allow","Resource":"*"`, "Policy statement must contain actions."},
		{Identity, `"Effect":"Allow","Resource":"*","Action":"Invoke"`, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
		{Identity, `"Effect":"Allow","Resource":"*","Action":"a:b:c"`, "Actions/Condition can contain only one colon."},
		{Identity, `"Effect":"Allow","Resource":"*","Action":"a b:c"`, "Vendor a b is not valid"},
		{Trust, `"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"lambda.amazonaws.com"}`, ""},
		{Trust, `"Effect":"Allow","Action":"sts:AssumeRole"`, "Missing required field Principal"},
		{Trust, `"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*","Resource":"*"`, "Has prohibited field Resource"},
		{Trust, rest + `,"Principal":"*"`, "AssumeRole policy may only specify STS AssumeRole actions."},
	} {
		err := parse(t, `{"Version":"2012-10-17","Statement":{`+c.statement+`}}`).Check(c.kind)
		if err == nil && c.want != "" || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v\nand not %s", c.statement, err, c.want)
		}
	}
	for text, want := range map[string]string{
		`{"Version":"2012-10-17","Statement":[]}`: "Syntax errors in policy. A policy must have a statement.",
		`{"Version":"2013","Statement":[]}`:       `Syntax errors in policy. There is no version "2013" of the language.`,
		`{"Version":"2008-10-17","Statement":[]}`: "Policy document must be version 2012-10-17 or greater.",
		`{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}]}`: "Statement IDs (SID) in a single policy must be unique.",
	} {
		if err := parse(t, text).Check(Identity); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nand not %s", text, err, want)
		}
	}
}

// drawDocument makes a policy that Check lets pass, over few enough words that
// requests of drawRequest are concerned.
func drawDocument(t *rapid.T) *Document {
	pick := func(words ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(words), 1, 2, rapid.ID).Draw(t, "words")
	}
	d := &Document{Version: rapid.SampledFrom([]string{"", "2008-10-17", "2012-10-17"}).Draw(t, "version"), ID: rapid.SampledFrom([]string{"", "default"}).Draw(t, "id")}
	for range rapid.IntRange(1, 4).Draw(t, "statements") {
		s := Statement{Effect: rapid.SampledFrom([]Effect{Allow, Allow, Deny}).Draw(t, "effect")}
		p := &Principals{Any: true}
		switch rapid.IntRange(0, 3).Draw(t, "principal") {
		case 0:
			p = &Principals{AWS: pick("arn:aws:iam::111111111111:root", "arn:aws:iam::222222222222:role/r", "*")}
		case 1:
			p = &Principals{Service: pick("s3.amazonaws.com", "sns.amazonaws.com")}
		}
		if rapid.IntRange(0, 4).Draw(t, "not") == 0 {
			s.NotPrincipal = p
		} else {
			s.Principal = p
		}
		actions := pick("lambda:InvokeFunction", "lambda:Invoke*", "lambda:GetFunction", "*")
		if rapid.IntRange(0, 4).Draw(t, "not") == 0 {
			s.NotAction = actions
		} else {
			s.Action = actions
		}
		resources := pick("arn:aws:lambda:us-east-1:000000000000:function:f", "arn:aws:lambda:*:*:function:?", "*", "arn:aws:lambda:us-east-1:${aws:SourceAccount}:function:g")
		if rapid.IntRange(0, 4).Draw(t, "not") == 0 {
			s.NotResource = resources
		} else {
			s.Resource = resources
		}
		for operator := range map[string]bool{rapid.SampledFrom([]string{"StringEquals", "ArnLike", "StringNotLike", "ForAllValues:StringLike", "Null"}).Draw(t, "operator"): true} {
			if rapid.Bool().Draw(t, "condition") {
				values := pick("arn:aws:s3:::b", "arn:aws:s3:::*", "000000000000")
				if operator == "Null" {
					values = []string{"true"}
				}
				s.Conditions = append(s.Conditions, Condition{operator, rapid.SampledFrom([]string{"aws:SourceArn", "AWS:SourceAccount"}).Draw(t, "key"), values})
			}
		}
		d.Statements = append(d.Statements, s)
	}
	return d
}

func drawRequest(t *rapid.T) *Request {
	r := &Request{
		Action:   rapid.SampledFrom([]string{"lambda:InvokeFunction", "lambda:GetFunction"}).Draw(t, "action"),
		Resource: rapid.SampledFrom([]string{"arn:aws:lambda:us-east-1:000000000000:function:f", "arn:aws:lambda:us-east-1:000000000000:function:g"}).Draw(t, "resource"),
		Principal: rapid.SampledFrom([]Principal{
			{}, {Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/u"},
			{Account: "222222222222", ARN: "arn:aws:sts::222222222222:assumed-role/r/s"}, {Service: "s3.amazonaws.com"},
		}).Draw(t, "who"),
		Context: map[string][]string{},
	}
	if rapid.Bool().Draw(t, "arn") {
		r.Context["aws:sourcearn"] = []string{"arn:aws:s3:::b"}
	}
	if rapid.Bool().Draw(t, "account") {
		r.Context["aws:sourceaccount"] = []string{"000000000000"}
	}
	return r
}

func TestADocumentSurvivesItsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, r := drawDocument(t), drawRequest(t)
		back, err := Parse([]byte(d.String()))
		if err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		if back.String() != d.String() {
			t.Fatalf("%s\nbecame\n%s", d, back)
		}
		if err := back.Check(Resource); err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		was, _ := d.Evaluate(r)
		if is, _ := back.Evaluate(r); is != was {
			t.Fatalf("%s: %v became %v", d, was, is)
		}
		var viaJSON Document
		if err := json.Unmarshal([]byte(d.String()), &viaJSON); err != nil || viaJSON.String() != d.String() {
			t.Fatalf("json.Unmarshal made %s of %s: %v", viaJSON, d, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:000000000000:function:f","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::${x, 'y'}*?"},"ForAnyValue:NumericLessThanIfExists":{"n":[1,2]},"DateEquals":{"d":"2020"},"IpAddress":{"i":"10.0.0.0/8"}}}]}`))
	f.Add([]byte(`{"Statement":{"NotPrincipal":"*","NotAction":[],"NotResource":["a"],"Condition":{"Null":{"k":true}}}}`))
	r := &Request{
		Principal: Principal{Account: "111111111111", ARN: "arn:aws:sts::111111111111:assumed-role/r/s"},
		Action:    "lambda:InvokeFunction", Resource: "arn:aws:lambda:us-east-1:000000000000:function:f",
		Context: map[string][]string{"aws:sourcearn": {"arn:aws:s3:::b"}, "n": {"1", "x"}, "d": {"2020-01-01"}, "i": {"10.1.1.1"}, "k": {}},
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		for _, kind := range []Kind{Resource, Identity, Trust} {
			_ = d.Check(kind) // must not panic
		}
		back, err := Parse([]byte(d.String()))
		if err != nil || back.String() != d.String() {
			t.Fatalf("%s became %s: %v", d, back, err)
		}
		was, _ := d.Evaluate(r)
		if is, _ := back.Evaluate(r); is != was && d.Check(Resource) == nil {
			t.Fatalf("%s: %v became %v", d, was, is)
		}
	})
}
