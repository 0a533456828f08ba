package lambda

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"pgregory.net/rapid"
)

func request(t testing.TB, line, body string) (*http.Request, route) {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	rt, ok := newRouter(operations).find(method, u.EscapedPath(), u.RawQuery)
	if !ok {
		t.Fatalf("%s is no operation", line)
	}
	return &http.Request{Method: method, URL: u, Header: http.Header{}, Body: http.NoBody}, rt
}

// validated is the error that a request gets before its operation runs.
func validated(t testing.TB, line, body string) error {
	t.Helper()
	r, rt := request(t, line, body)
	in, err := bind(rt, r, []byte(body))
	if err != nil {
		return err
	}
	return validate(rt.op, in)
}

const namePattern = `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)`

// The texts are recordings of the service.
func TestViolationsAreToldInTheServicesWords(t *testing.T) {
	const create = "POST /2015-03-31/functions"
	const rest = `"FunctionName":"f","Role":"arn:aws:iam::111111111111:role/r","Code":{}`
	for name, c := range map[string]struct{ line, body, want string }{
		"nothing wrong": {create, `{` + rest + `}`, ""},
		"role": {create, `{"FunctionName":"f","Role":"r1","Code":{}}`,
			`1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`},
		"two architectures": {create, `{` + rest + `,"Architectures":["x86_64","arm64"]}`,
			`1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1`},
		"unknown architecture": {create, `{` + rest + `,"Architectures":["X86_64"]}`,
			`1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]`},
		"snap start": {create, `{` + rest + `,"SnapStart":{"ApplyOn":"invalidOption"}}`,
			`1 validation error detected: Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]`},
		"name": {create, `{"FunctionName":"invalid:function:name","Role":"arn:aws:iam::111111111111:role/r","Code":{}}`,
			`1 validation error detected: Value 'invalid:function:name' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: ` + namePattern + `(:(\$LATEST|[a-zA-Z0-9-_]+))?`},
		"long name": {create, `{"FunctionName":"arn:aws:lambda:us-east-1:111111111111:function:` + strings.Repeat("a", 120) + `","Role":"arn:aws:iam::111111111111:role/r","Code":{}}`,
			`1 validation error detected: Value 'arn:aws:lambda:us-east-1:111111111111:function:` + strings.Repeat("a", 120) + `' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140`},
		"several": {create, `{"Role":"r1","Timeout":901,"MemorySize":1}`,
			`5 validation errors detected: Value null at 'code' failed to satisfy constraint: Member must not be null; ` +
				`Value null at 'functionName' failed to satisfy constraint: Member must not be null; ` +
				`Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+; ` +
				`Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128; ` +
				`Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900`},
		"list of structures": {create, `{` + rest + `,"FileSystemConfigs":[{"Arn":"x"}]}`,
			`2 validation errors detected: Value 'x' at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint: Member must satisfy regular expression pattern: ` + constraints()["FileSystemArn"].regex +
				`; Value null at 'fileSystemConfigs.1.member.localMountPath' failed to satisfy constraint: Member must not be null`},
		"function version": {"GET /2015-03-31/functions?FunctionVersion=invalid", "",
			`1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]`},
		"qualifier": {"GET /2015-03-31/functions/f?Qualifier=invalid-qualifier-with-?-char", "",
			`1 validation error detected: Value 'invalid-qualifier-with-?-char' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`},
		"alias of digits": {"GET /2015-03-31/functions/f/aliases/2024", "",
			`1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)`},
		"weights": {"POST /2015-03-31/functions/f/aliases", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"2":2.0}}}`,
			`1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]`},
		"weight of $LATEST": {"POST /2015-03-31/functions/f/aliases", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"$LATEST":0.5}}}`,
			`1 validation error detected: Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, Member must not be null]`},
		"tag keys": {"DELETE /2017-03-31/tags/arn:aws:lambda:us-east-1:111111111111:function:f", "",
			`1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null`},
		"provisioned": {"PUT /2019-09-30/functions/f/provisioned-concurrency?Qualifier=1", `{"ProvisionedConcurrentExecutions":0}`,
			`1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1`},
		"URL's qualifier": {"GET /2021-10-31/functions/f/url?Qualifier=1", "",
			`1 validation error detected: Value '1' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)`},
	} {
		t.Run(name, func(t *testing.T) {
			err := validated(t, c.line, c.body)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if hearth.KindOf(err) != hearth.Validation || asError(err).Message != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestWrongShapesAreSerializationErrors(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"no JSON":             {`{"FunctionName":`, "Could not parse request body into json: unexpected end of input at offset 16"},
		"text after":          {`{} x`, "Could not parse request body into json: unexpected character 'x' after the document at offset 3"},
		"not an object":       {`[]`, "Unexpected token (START_ARRAY), expected START_OBJECT"},
		"number for a string": {`{"FunctionName":1}`, "NUMBER_VALUE can not be converted to a String"},
		"string for a number": {`{"Timeout":"3"}`, "STRING_VALUE can not be converted to an Integer"},
		"fraction":            {`{"Timeout":3.5}`, "'3.5' can not be converted to an Integer"},
		"too large":           {`{"Timeout":3000000000}`, "'3000000000' can not be converted to an Integer"},
		"list for a struct":   {`{"Code":[]}`, "Start of list found where not expected"},
		"struct for a list":   {`{"Layers":{}}`, "Start of structure or map found where not expected."},
		"word for a boolean":  {`{"Publish":"true"}`, "STRING_VALUE can not be converted to a Boolean"},
		"no base64":           {`{"Code":{"ZipFile":"***"}}`, "Could not parse request body into json: a blob must be base64 at offset 24"},
	} {
		t.Run(name, func(t *testing.T) {
			err := validated(t, "POST /2015-03-31/functions", c.body)
			if hearth.KindOf(err) != kindSerialization || asError(err).Message != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if a := encodeError(err); a.status != 400 {
				t.Errorf("status %d", a.status)
			}
		})
	}
}

func TestEveryPatternOfTheModelCompiles(t *testing.T) {
	n := 0
	for name, c := range constraints() {
		if c.match != nil {
			c.match().match(name)
			n++
		}
	}
	if n < 70 {
		t.Errorf("only %d patterns", n)
	}
}

func TestLookaroundIsKept(t *testing.T) {
	for _, c := range []struct {
		shape, value string
		want         bool
	}{
		{"Alias", "prod", true}, {"Alias", "1prod", true}, {"Alias", "12", false}, {"Alias", "", false},
		{"FunctionUrlQualifier", "x1", true}, {"FunctionUrlQualifier", "11", false},
		{"S3Bucket", "my.bucket", true}, {"S3Bucket", "bucket.", false},
		{"CollectionName", "system.users", false}, {"CollectionName", "systemusers", true}, {"CollectionName", "a$", false},
	} {
		if got := constraints()[c.shape].match().match(c.value); got != c.want {
			t.Errorf("%s %q: %v", c.shape, c.value, got)
		}
	}
}

func TestParsedNamesAreThoseOfThePattern(t *testing.T) {
	pattern := constraints()["NamespacedFunctionName"].match()
	rapid.Check(t, func(t *rapid.T) {
		s := ""
		for _, part := range []string{"arn:aws:lambda:|arn:aws-cn:lambda:|arn::lambda:|arn:x:lambda:", "us-east-1:|us-gov-west-1:|eu:", "000000000000:|12:", "function:|layer:"} {
			if rapid.IntRange(0, 3).Draw(t, "has") > 0 {
				s += rapid.SampledFrom(strings.Split(part, "|")).Draw(t, "part")
			}
		}
		s += rapid.StringMatching(`[a-z0-9._ -]{0,6}(:(\$LATEST|[a-z1$]{0,3}))?(:x)?`).Draw(t, "name")
		got, ok := parseName(s)
		if !ok {
			return
		}
		if !pattern.match(s) {
			t.Fatalf("%q is read as %+v and does not match", s, got)
		}
		if !strings.HasSuffix(s, got.name) && !strings.HasSuffix(s, got.name+":"+got.qualifier) {
			t.Fatalf("%q is read as %+v", s, got)
		}
	})
}

func TestNamesAreRead(t *testing.T) {
	for s, want := range map[string]target{
		"f":   {name: "f"},
		"f:1": {name: "f", qualifier: "1"},
		"arn:aws:lambda:us-east-1:000000000000:function:f":         {"us-east-1", "000000000000", "f", ""},
		"arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST": {"us-east-1", "000000000000", "f", "$LATEST"},
		"000000000000:function:f":                                  {account: "000000000000", name: "f"},
		"000000000000:f:live":                                      {account: "000000000000", name: "f", qualifier: "live"},
		"function:f":                                               {name: "f"},
		"function":                                                 {name: "function"},
		"us-east-1:000000000000:function:f":                        {"us-east-1", "000000000000", "f", ""},
	} {
		if got, ok := parseName(s); !ok || got != want {
			t.Errorf("%s is read as %+v %v, want %+v", s, got, ok, want)
		}
	}
	for _, s := range []string{"", ":", "f:", "a b", "f:1:2", "arn:aws:s3:::f", "arn:aws:lambda:us-east-1:000000000000:layer:f", "arn:aws:lambda:f", strings.Repeat("a", 257)} {
		if got, ok := parseName(s); ok {
			t.Errorf("%q is read as %+v", s, got)
		}
	}
}

// The order of an enumeration in the service's messages is that of a Java
// HashSet; this is the longest recorded one, as far as it goes. Three of its
// names share a bucket, where the order is that of insertion.
func TestEnumerationsAreInTheServicesOrder(t *testing.T) {
	got := hashSetOrder(strings.Split("dotnet10,dotnet6,dotnet8,java11,java17,java21,java25,java8.al2,nodejs16.x,nodejs18.x,nodejs20.x,nodejs22.x,nodejs24.x,python3.14,provided.al2,provided.al2023,python3.10,python3.11,python3.12,python3.13,python3.8,python3.9,ruby3.2,ruby3.3,ruby3.4", ","))
	const recorded = "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, java17, nodejs16.x, dotnet"
	if !strings.HasPrefix(strings.Join(got, ", "), recorded) {
		t.Errorf("got %v", got)
	}
}
