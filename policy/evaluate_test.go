package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// decide evaluates one statement of the current version.
func decide(t *testing.T, statement string, r *Request) Outcome {
	t.Helper()
	o, _ := parse(t, `{"Version":"2012-10-17","Statement":{`+statement+`}}`).Evaluate(r)
	return o
}

func TestAConditionHoldsAsTheLanguageSays(t *testing.T) {
	context := map[string][]string{
		"s": {"Abc"}, "many": {"a", "b"}, "n": {"10"}, "d": {"2020-06-01T00:00:00Z"}, "t": {"true"},
		"ip": {"10.1.2.3"}, "ip6": {"2001:db8::1"}, "b": {"aGk="}, "arn": {"arn:aws:s3:::bucket/a:b"}, "user": {"j*"}, "bad": {"x"},
	}
	for condition, want := range map[string]bool{
		`"StringEquals":{"S":"Abc"}`:                                true, // keys heed no case
		`"StringEquals":{"s":"abc"}`:                                false,
		`"StringEquals":{"s":["x","Abc"]}`:                          true,
		`"StringEquals":{"s":"A*"}`:                                 false,
		`"StringEquals":{"none":"x"}`:                               false,
		`"StringEquals":{"s":"Abc","none":"x"}`:                     false, // all must hold
		`"StringEqualsIfExists":{"none":"x"}`:                       true,
		`"StringEqualsIfExists":{"s":"x"}`:                          false,
		`"StringNotEquals":{"s":["x","Abc"]}`:                       false,
		`"StringNotEquals":{"s":"x"}`:                               true,
		`"StringNotEquals":{"none":"x"}`:                            true,
		`"StringEqualsIgnoreCase":{"s":"aBC"}`:                      true,
		`"StringNotEqualsIgnoreCase":{"s":"aBC"}`:                   false,
		`"StringLike":{"s":"?b*"}`:                                  true,
		`"StringLike":{"s":"b*"}`:                                   false,
		`"StringNotLike":{"s":"A*"}`:                                false,
		`"StringLike":{"user":"${user}"}`:                           true,
		`"StringLike":{"s":"${user}"}`:                              false,
		`"StringEquals":{"user":"j${*}"}`:                           true,
		`"StringEquals":{"s":"${none}"}`:                            false,
		`"StringEquals":{"s":"${none, 'Abc'}"}`:                     true,
		`"StringNotEquals":{"s":"${none}"}`:                         true,
		`"ForAnyValue:StringEquals":{"many":["b","c"]}`:             true,
		`"ForAnyValue:StringEquals":{"many":"c"}`:                   false,
		`"ForAnyValue:StringEquals":{"none":"c"}`:                   false,
		`"ForAnyValue:StringNotEquals":{"many":"a"}`:                true,
		`"ForAnyValue:StringNotEquals":{"many":["a","b"]}`:          false,
		`"ForAllValues:StringEquals":{"many":["a","b","c"]}`:        true,
		`"ForAllValues:StringEquals":{"many":"a"}`:                  false,
		`"ForAllValues:StringEquals":{"none":"a"}`:                  true,
		`"ForAllValues:StringNotEquals":{"many":"a"}`:               false,
		`"ForAllValues:StringNotEquals":{"many":"c"}`:               true,
		`"NumericEquals":{"n":10.0}`:                                true,
		`"NumericNotEquals":{"n":"10"}`:                             false,
		`"NumericLessThan":{"n":"10"}`:                              false,
		`"NumericLessThanEquals":{"n":"10"}`:                        true,
		`"NumericGreaterThan":{"n":9}`:                              true,
		`"NumericGreaterThanEquals":{"n":"11"}`:                     false,
		`"NumericLessThan":{"bad":"10"}`:                            false,
		`"DateEquals":{"d":"2020-06-01"}`:                           true,
		`"DateNotEquals":{"d":"2020-06-01"}`:                        false,
		`"DateLessThan":{"d":"2020-06-01T00:00:01Z"}`:               true,
		`"DateLessThanEquals":{"d":"2020-05"}`:                      false,
		`"DateGreaterThan":{"d":"1590969599"}`:                      true,
		`"DateGreaterThanEquals":{"d":"2020-06-01T02:00:00+02:00"}`: true,
		`"DateLessThan":{"bad":"2020"}`:                             false,
		`"Bool":{"t":true}`:                                         true,
		`"Bool":{"t":"false"}`:                                      false,
		`"Bool":{"none":"false"}`:                                   false,
		`"BoolIfExists":{"none":"false"}`:                           true,
		`"BinaryEquals":{"b":"aGk="}`:                               true,
		`"BinaryEquals":{"b":"aGk"}`:                                false,
		`"IpAddress":{"ip":"10.1.0.0/16"}`:                          true,
		`"IpAddress":{"ip":["192.168.0.0/16","10.1.2.3"]}`:          true,
		`"IpAddress":{"ip6":"2001:db8::/32"}`:                       true,
		`"IpAddress":{"ip6":"10.0.0.0/8"}`:                          false,
		`"NotIpAddress":{"ip":"10.1.0.0/16"}`:                       false,
		`"NotIpAddress":{"ip":"11.0.0.0/8"}`:                        true,
		`"IpAddress":{"bad":"0.0.0.0/0"}`:                           false,
		`"ArnLike":{"arn":"arn:aws:s3:::bucket/*"}`:                 true,
		`"ArnLike":{"arn":"arn:aws:s3:*"}`:                          false, // a wildcard stays in its part
		`"ArnLike":{"arn":"arn:*:s3:*:*:*"}`:                        true,
		`"ArnEquals":{"arn":"arn:aws:s3:::b*"}`:                     true,
		`"ArnNotEquals":{"arn":"arn:aws:s3:::b*"}`:                  false,
		`"ArnLike":{"arn":"*"}`:                                     true,
		`"ArnNotLike":{"arn":"arn:aws:sns:::b*"}`:                   true,
		`"ArnLike":{"s":"arn:aws:s3:::*"}`:                          false,
		`"Null":{"none":"true"}`:                                    true,
		`"Null":{"s":"true"}`:                                       false,
		`"Null":{"s":false}`:                                        true,
		`"Null":{"none":"false"}`:                                   false,
	} {
		r := &Request{Action: "a:B", Resource: "r", Context: context}
		if got := decide(t, `"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{`+condition+`}`, r) == Allowed; got != want {
			t.Errorf("%s is %v", condition, got)
		}
	}
}

func TestAStatementAppliesToItsPrincipals(t *testing.T) {
	root := Principal{Account: "111111111111", ARN: "arn:aws:iam::111111111111:root"}
	user := Principal{Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/u"}
	session := Principal{Account: "111111111111", ARN: "arn:aws:sts::111111111111:assumed-role/r/s"}
	service := Principal{Service: "s3.amazonaws.com"}
	federated := Principal{Federated: "accounts.google.com"}
	nobody := Principal{}
	for _, c := range []struct {
		principal string
		lets      []Principal
	}{
		{`"Principal":"*"`, []Principal{root, user, session, service, federated, nobody}},
		{`"Principal":{"AWS":"*"}`, []Principal{root, user, session, service, federated, nobody}},
		{`"Principal":{"AWS":"111111111111"}`, []Principal{root, user, session}},
		{`"Principal":{"AWS":"222222222222"}`, nil},
		{`"Principal":{"AWS":"arn:aws:iam::111111111111:user/u"}`, []Principal{user}},
		{`"Principal":{"AWS":"arn:aws:iam::111111111111:role/path/r"}`, []Principal{session}},
		{`"Principal":{"AWS":"arn:aws:iam::222222222222:role/r"}`, nil},
		{`"Principal":{"AWS":"arn:aws:sts::111111111111:assumed-role/r/s"}`, []Principal{session}},
		{`"Principal":{"AWS":"arn:aws:sts::111111111111:assumed-role/r/other"}`, nil},
		{`"Principal":{"Service":["sns.amazonaws.com","S3.amazonaws.com"]}`, []Principal{service}},
		{`"Principal":{"Federated":"accounts.google.com"}`, []Principal{federated}},
		{`"Principal":{"CanonicalUser":"abc"}`, nil},
		{`"NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/u"}`, []Principal{root, session, service, federated, nobody}},
	} {
		for _, who := range []Principal{root, user, session, service, federated, nobody} {
			want := ImplicitDeny
			for _, l := range c.lets {
				if l == who {
					want = Allowed
				}
			}
			if got := decide(t, `"Effect":"Allow",`+c.principal+`,"Action":"*","Resource":"*"`, &Request{Principal: who, Action: "a:B", Resource: "r"}); got != want {
				t.Errorf("%s, %+v: %v", c.principal, who, got)
			}
		}
	}
}

func TestAStatementAppliesToItsActionsAndResources(t *testing.T) {
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	for statement, want := range map[string]bool{
		`"Action":"lambda:InvokeFunction","Resource":"*"`:                       true,
		`"Action":"LAMBDA:invokefunction","Resource":"*"`:                       true,
		`"Action":"lambda:Invoke*","Resource":"` + arn + `"`:                    true,
		`"Action":"lambda:Invoke?","Resource":"*"`:                              false,
		`"Action":"*","Resource":"` + arn + `:*"`:                               false,
		`"Action":"*","Resource":"` + strings.ToUpper(arn) + `"`:                false,
		`"Action":"*","Resource":"arn:aws:lambda:*:f"`:                          true,
		`"NotAction":"lambda:Get*","Resource":"*"`:                              true,
		`"NotAction":["lambda:Get*","lambda:*"],"Resource":"*"`:                 false,
		`"Action":"*","NotResource":"` + arn + `"`:                              false,
		`"Action":"*","NotResource":"` + arn + `2"`:                             true,
		`"Action":"*","Resource":"arn:aws:lambda:us-east-1:${acct}:function:f"`: true,
		`"Action":"*","Resource":"arn:aws:lambda:us-east-1:${no}:function:f"`:   false,
	} {
		r := &Request{Action: "lambda:InvokeFunction", Resource: arn, Context: map[string][]string{"acct": {"000000000000"}}}
		if got := decide(t, `"Effect":"Allow","Principal":"*",`+statement, r) == Allowed; got != want {
			t.Errorf("%s is %v", statement, got)
		}
	}
	old := parse(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"${acct}"}}`)
	if o, _ := old.Evaluate(&Request{Action: "a:B", Resource: "x", Context: map[string][]string{"acct": {"x"}}}); o != ImplicitDeny {
		t.Error("the older version of the language has variables")
	}
}

func TestTheDecidingStatementIsTold(t *testing.T) {
	d := parse(t, `{"Statement":[{"Sid":"other","Effect":"Allow","Action":"a:C","Resource":"*"},{"Sid":"yes","Effect":"Allow","Action":"a:*","Resource":"*"},{"Sid":"no","Effect":"Deny","Action":"a:D","Resource":"*"}]}`)
	for action, want := range map[string]string{"a:B": "yes", "a:C": "other", "a:D": "no", "b:B": ""} {
		_, s := d.Evaluate(&Request{Action: action, Resource: "r"})
		got := ""
		if s != nil {
			got = s.SID
		}
		if got != want {
			t.Errorf("%s was decided by %q and not %q", action, got, want)
		}
	}
	if o, _ := (*Document)(nil).Evaluate(&Request{}); o != ImplicitDeny {
		t.Error("no policy allows something")
	}
}

func TestDenyWinsWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, r := drawDocument(t), drawRequest(t)
		allows, denies := false, false
		for _, s := range d.Statements {
			one := Document{Version: d.Version, Statements: []Statement{s}}
			o, _ := one.Evaluate(r)
			allows, denies = allows || o == Allowed, denies || o == ExplicitDeny
		}
		want := ImplicitDeny
		if allows {
			want = Allowed
		}
		if denies {
			want = ExplicitDeny
		}
		shuffled := Document{Version: d.Version, Statements: rapid.Permutation(d.Statements).Draw(t, "order")}
		got, s := shuffled.Evaluate(r)
		if got != want || (s == nil) != (want == ImplicitDeny) {
			t.Fatalf("%s: %v and not %v", d, got, want)
		}
	})
}

func TestAPatternFitsWhatItsPiecesFit(t *testing.T) {
	// Against the definition itself: * takes any number of runes.
	var fits func(p, s string) bool
	fits = func(p, s string) bool {
		switch {
		case p == "":
			return s == ""
		case p[0] == '*':
			return fits(p[1:], s) || s != "" && fits(p, s[1:])
		}
		return s != "" && (p[0] == '?' || p[0] == s[0]) && fits(p[1:], s[1:])
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ab*?]{0,8}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab]{0,10}`).Draw(t, "text")
		p, _ := compile(text, nil, false)
		if p.match(s, false) != fits(text, s) {
			t.Fatalf("%q and %q", text, s)
		}
		if p.literal() != text {
			t.Fatalf("%q is literally %q", text, p.literal())
		}
	})
}
