package telemetry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestASubscriptionHasTheServicesDefaults(t *testing.T) {
	s, err := parse([]byte(`{"schemaVersion":"2022-12-13","types":["platform","function","platform"],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/a/b?c"}}`), false)
	if err != nil {
		t.Fatal(err)
	}
	if s.maxItems != 10000 || s.maxBytes != 262144 || s.timeout != time.Second || s.method != "POST" || s.port != 8080 ||
		s.path != "/a/b?c" || fmt.Sprint(s.types) != "[platform function]" || s.schema != "2022-12-13" {
		t.Errorf("%+v", s)
	}
	s, err = parse([]byte(`{"types":["extension"],"buffering":{"maxItems":1000,"maxBytes":1048576,"timeoutMs":25},"destination":{"protocol":"TCP","port":4243}}`), true)
	if err != nil {
		t.Fatal(err)
	}
	if s.maxItems != 1000 || s.maxBytes != 1<<20 || s.timeout != 25*time.Millisecond || s.method != "" || s.port != 4243 || s.schema != "2020-08-15" {
		t.Errorf("%+v", s)
	}
}

func TestASubscriptionThatCannotBeIsRefusedForAllThatIsWrong(t *testing.T) {
	const to = `"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080"}`
	const all = `"schemaVersion":"2022-07-01","types":["platform"]`
	for body, want := range map[string]string{
		`[]`:                                "the request is not a JSON object",
		`{`:                                 "the request is not valid JSON: unexpected end of JSON input",
		`{"types":"platform",` + to + `}`:   "types should not be a string",
		`{"types":["platform"],` + to + `}`: "schemaVersion is not provided",
		`{"schemaVersion":"2020-08-15","types":["platform"],` + to + `}`:                                      "schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29",
		`{"schemaVersion":"2022-07-01","types":["all"],` + to + `}`:                                           "types should be of platform, function, extension",
		`{"schemaVersion":"2022-07-01","destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain"}}`: "types should not be empty; URI port is not provided",
		`{` + all + `}`: "destination is not provided",
		`{` + all + `,"destination":{"protocol":"UDP"}}`:                                             "destination protocol should be HTTP or TCP",
		`{` + all + `,"destination":{}}`:                                                             "destination protocol is not provided",
		`{` + all + `,"destination":{"protocol":"HTTP"}}`:                                            "URI is not provided",
		`{` + all + `,"destination":{"protocol":"HTTP","URI":"http://example.com:80"}}`:              "URI host should be sandbox.localdomain",
		`{` + all + `,"destination":{"protocol":"HTTP","URI":"https://sandbox.localdomain:80"}}`:     "URI scheme should be http",
		`{` + all + `,"destination":{"protocol":"HTTP","URI":"http://sandbox:9001"}}`:                "port 9001 is reserved",
		`{` + all + `,"destination":{"protocol":"HTTP","URI":"http://sandbox:80","method":"GET"}}`:   "destination method should be POST or PUT",
		`{` + all + `,"destination":{"protocol":"HTTP","URI":"http://sandbox:80","encoding":"XML"}}`: "destination encoding should be JSON",
		`{` + all + `,"destination":{"protocol":"TCP"}}`:                                             "port is not provided",
		`{` + all + `,"destination":{"protocol":"TCP","port":65536}}`:                                "port should be between 1 and 65535",
		`{` + all + `,` + to + `,"buffering":{"maxItems":999,"maxBytes":1048577,"timeoutMs":24}}`:    "maxItems should be between 1000 and 10000; maxBytes should be between 262144 and 1048576; timeoutMs should be between 25 and 30000",
	} {
		if s, err := parse([]byte(body), false); err == nil || err.Error() != want {
			t.Errorf("%s\n%+v, %v; want %s", body, s, err, want)
		}
	}
}

func FuzzSubscription(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":"2022-12-13","types":["platform"],"buffering":{"maxItems":1000},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/a"}}`), false)
	f.Add([]byte(`{"types":["extension"],"destination":{"protocol":"TCP","port":4243}}`), true)
	f.Add([]byte(`{"types":[],"destination":{"protocol":"HTTP","URI":"http://[::1]:80"}}`), true)
	f.Fuzz(func(t *testing.T, body []byte, logs bool) {
		s, err := parse(body, logs)
		if err != nil {
			if s != nil {
				t.Errorf("%+v with %v", s, err)
			}
			return
		}
		if !json.Valid(body) || s.port < 1 || s.port > 65535 || s.port == reservedPort || len(s.types) == 0 || len(s.types) > 3 ||
			s.maxItems < minItems || s.maxItems > maxItems || s.maxBytes < minBytes || s.maxBytes > maxBytes ||
			s.timeout < minTimeout*time.Millisecond || s.timeout > maxTimeout*time.Millisecond ||
			s.method != "" && !strings.HasPrefix(s.path, "/") {
			t.Errorf("%q was taken as %+v", body, s)
		}
	})
}
