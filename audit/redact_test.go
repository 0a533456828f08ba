package audit

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNoSecretGetsIntoARecord(t *testing.T) {
	const secret = "hunter2-TOP-SECRET"
	var p Parameters
	p.JSON([]byte(`{"FunctionName":"f","Description":"` + secret + `","Environment":{"Variables":{"` + secret + `":"` + secret + `"}},
		"Code":{"ZipFile":"` + secret + `"},"` + secret + `":"x","MemorySize":128,"Publish":true,"Tags":{"a":"` + secret + `"}}`))
	p.Values(url.Values{"Token": {secret}, "PolicyDocument": {secret}, "RoleName": {"r"},
		"ActionNames.member.1": {"s3:GetObject"}, "Tags.member.1.Value": {secret}, "PolicyInputList.member.1": {secret}, "ActionNames.member.2.X": {secret}, "X-Amz-Signature": {secret}, "X-Amz-Security-Token": {secret}})
	type input struct {
		FunctionName *string
		Environment  struct{ Variables map[string]string }
		Description  *string
		ZipFile      []byte
	}
	name, text := "g", secret
	in := input{FunctionName: &name, Description: &text, ZipFile: []byte(secret)}
	in.Environment.Variables = map[string]string{"K": secret}
	p.Struct(&in)
	var e Event
	p.To(&e)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(secret)) {
		t.Errorf("%s", b)
	}
	if p.Name("functionname") != "g" || e.Parameters["MemorySize"] != "128" || e.Parameters["RoleName"] != "r" || e.Parameters["ActionNames.member.1"] != "s3:GetObject" || e.Omitted != 13 {
		t.Errorf("%s", b)
	}
}

// However large its parts are, a record keeps within what is taken for it.
func TestARecordKeepsItsBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.Custom(func(rt *rapid.T) string {
			return strings.Repeat(rapid.SampledFrom([]string{"<", "\"", "\\", "é", "\x00", "\u2028", "\xff", "😀", "a"}).Draw(rt, "of"), rapid.IntRange(0, 9000).Draw(rt, "n"))
		})
		e := &Event{
			RequestID: text.Draw(rt, "id"), Principal: text.Draw(rt, "who"), AccessKeyID: text.Draw(rt, "key"), SourceIP: text.Draw(rt, "ip"),
			UserAgent: text.Draw(rt, "ua"), Service: text.Draw(rt, "service"), Action: text.Draw(rt, "action"), Resource: text.Draw(rt, "resource"), ErrorCode: text.Draw(rt, "code"),
		}
		var p Parameters
		for name := range allowed {
			p.add(name, text.Draw(rt, "value"))
		}
		p.To(e)
		e.bound()
		b, _, err := chain{}.appendLine(nil, link{}, e)
		if err != nil || len(b) > maxRecord {
			rt.Fatalf("%d bytes, %v", len(b), err)
		}
	})
}

func TestReadOnlyIsToldByTheOperation(t *testing.T) {
	for op, want := range map[string]bool{
		"lambda/GetFunction": true, "lambda/CreateFunction": false, "sts/AssumeRole": false, "sts/GetSessionToken": false,
		"sts/GetCallerIdentity": true, "events/TestEventPattern": true, "iam/Getaway": false, "sqs/ListQueues": true, "lambda/DeleteFunction": false,
	} {
		service, name, _ := strings.Cut(op, "/")
		if got := ReadOnly(service, name); got != want {
			t.Errorf("%s: %v", op, got)
		}
	}
}

// Whatever a caller sends, what is recorded of it are names on the list, within
// bounds.
func FuzzParameters(f *testing.F) {
	f.Add([]byte(`{"FunctionName":"f","Environment":{},"MemorySize":1e9}`), "RoleName=r&Action=CreateRole", "a%2Fb")
	f.Fuzz(func(t *testing.T, body []byte, query, label string) {
		var p Parameters
		p.JSON(body)
		if v, err := url.ParseQuery(query); err == nil {
			p.Values(v)
		}
		p.Label("FunctionName", label)
		var e Event
		p.To(&e)
		e.bound()
		for name, value := range e.Parameters {
			if !allowed[strings.ToLower(strings.ReplaceAll(listed(name), "-", ""))] || len(value) > maxText {
				t.Errorf("%q: %q", name, value)
			}
		}
		if b, _, err := (chain{}).appendLine(nil, link{}, &e); err != nil || len(b) > maxRecord {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}
