package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"
)

// entry is a file of an archive whose mode matters.
type entry struct {
	name, text string
	mode       fs.FileMode
}

func archiveOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(w, e.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layer is one of two layers that have most of their files in common.
func layer(t testing.TB, who string) []byte {
	return archiveOf(t,
		entry{"python/shared.py", "WHO = '" + who + "'\n", 0o644},
		entry{"python/of_" + who + ".py", "HERE = True\n", 0o644},
		entry{"python/lib/python3.11/site-packages/site_" + who + ".py", "HERE = True\n", 0o644},
		entry{"nodejs/node_modules/shared/index.js", "exports.who = '" + who + "'\n", 0o644},
		entry{"nodejs/node_modules/of-" + who + "/index.js", "exports.here = true\n", 0o644},
		entry{"nodejs/node20/node_modules/versioned-" + who + "/index.js", "exports.here = true\n", 0o644},
		entry{"bin/tool", "#!/bin/sh\necho " + who + "\n", 0o755},
		entry{"bin/plain", who, 0o640},
		entry{"lib/of-" + who, who, 0o644},
	)
}

const layeredPython = `
import os, shutil, stat, subprocess, sys
import shared, of_one, of_two, site_one, site_two

def handler(event, context):
    try:
        open('/opt/new', 'w')
        written = 'yes'
    except OSError as e:
        written = 'no'
    mode = lambda path: oct(stat.S_IMODE(os.stat(path).st_mode))
    return {
        'who': shared.WHO, 'tool': subprocess.check_output(['tool'], text=True).strip(), 'which': shutil.which('tool'),
        'plain': open('/opt/bin/plain').read() if os.access('/opt/bin/plain', os.R_OK) else 'unreadable',
        'modes': [mode('/opt/bin/tool'), mode('/opt/python/shared.py')], 'lib': sorted(os.listdir('/opt/lib')), 'written': written,
        'path': os.environ['PATH'].split(':')[-1], 'libs': os.environ['LD_LIBRARY_PATH'].split(':')[-1],
        'python': [p for p in sys.path if p.startswith('/opt')],
    }
`

const layeredNode = `
const { execFileSync } = require('node:child_process')
const shared = require('shared')
const here = [require('of-one'), require('of-two'), require('versioned-one'), require('versioned-two')].every((m) => m.here)
exports.handler = async () => ({ who: shared.who, here, tool: execFileSync('tool').toString().trim() })
`

// Two layers are merged in the function's order, for runtimes that waited
// booted in the pool and for others, and a function keeps them when their
// versions are deleted, also over a power cut.
func TestLayersAreMergedInOrderAndOutliveTheirVersions(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, ctx := s.client(), t.Context()
	arns := map[string]string{}
	for _, who := range []string{"one", "two"} {
		out, err := c.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{LayerName: &who, Content: &types.LayerVersionContentInput{ZipFile: layer(t, who)}})
		if err != nil {
			t.Fatal(err)
		}
		arns[who] = *out.LayerVersionArn
	}
	python := map[string]string{"index.py": layeredPython}
	node := map[string]string{"index.js": layeredNode}
	use := func(name string, layers ...string) {
		t.Helper()
		if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Layers: layers}); err != nil {
			t.Fatal(err)
		}
		s.waitActive(name)
	}
	wantPython := func(name, who string) {
		t.Helper()
		var got struct {
			Who, Tool, Which, Plain, Written, Path, Libs string
			Modes, Lib, Python                           []string
		}
		a := s.mustInvoke(name, "{}")
		if err := json.Unmarshal([]byte(a.payload), &got); err != nil {
			t.Fatal(err)
		}
		if got.Who != who || got.Tool != who || got.Plain != who || got.Which != "/opt/bin/tool" || got.Written != "no" ||
			got.Path != "/opt/bin" || got.Libs != "/opt/lib" || strings.Join(got.Lib, " ") != "of-one of-two" ||
			strings.Join(got.Modes, " ") != "0o755 0o644" || strings.Join(got.Python, " ") != "/opt/python/lib/python3.11/site-packages /opt/python" {
			t.Errorf("%s, where %s is above: %s", name, who, a.payload)
		}
	}
	wantNode := func(who string) {
		t.Helper()
		if a := s.mustInvoke("node", "{}"); !sameJSON(a.payload, `{"who":"`+who+`","here":true,"tool":"`+who+`"}`) {
			t.Errorf("node, where %s is above: %s", who, a.payload)
		}
	}
	s.deploy(function{name: "booted", runtime: "python3.11", files: python})
	s.deploy(function{name: "unbooted", runtime: "python3.11", files: python, env: map[string]string{"PYTHONDONTWRITEBYTECODE": "1"}})
	s.deploy(function{name: "node", runtime: "nodejs20.x", files: node})
	for _, name := range []string{"booted", "unbooted"} {
		use(name, arns["one"], arns["two"])
		wantPython(name, "two")
	}
	use("node", arns["two"], arns["one"])
	wantNode("one")
	use("booted", arns["two"], arns["one"])
	wantPython("booted", "one")

	for who := range arns {
		if _, err := c.DeleteLayerVersion(ctx, &lambda.DeleteLayerVersionInput{LayerName: &who, VersionNumber: new(int64(1))}); err != nil {
			t.Fatal(err)
		}
		_, err := c.GetLayerVersion(ctx, &lambda.GetLayerVersionInput{LayerName: &who, VersionNumber: new(int64(1))})
		if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
			t.Errorf("a deleted layer version: %v", err)
		}
	}
	_, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: new("node"), Layers: []string{arns["one"]}})
	if err == nil || !strings.Contains(err.Error(), "Layer version "+arns["one"]+" does not exist.") {
		t.Errorf("a deleted layer version was taken: %v", err)
	}
	s.kill9()
	s = startIn(t, s.dir)
	c = s.client()
	wantPython("booted", "one")
	wantPython("unbooted", "two")
	if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: new("node"), MemorySize: new(int32(300))}); err != nil {
		t.Fatal(err)
	}
	s.waitActive("node")
	wantNode("one")
}

// Another account, and a service, invoke as long as the policy lets them.
func TestAPolicyOpensAFunctionToOthersAndClosesItAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t, capacity{memoryMiB: 1024, instanceMiB: 256, poolMiB: 256})
	const owner, other = hearth.Account("111111111111"), hearth.Account("222222222222")
	fn := m.deploy(owner, function{name: "f", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo"), memory: 128, timeout: 10})
	invoke := func(who hearth.Identity, source *hearth.Source) error {
		inv := &hearth.Invocation{Account: owner, Name: "f", Payload: []byte(`{"n":1}`), Caller: who, Source: source}
		inv.Timeline.Begin(time.Now())
		_, err := m.frontend.Invoke(context.Background(), inv)
		inv.Timeline.End(hearth.StageAnswer, time.Now())
		m.frontend.Done(inv)
		return err
	}
	set := func(statements ...policy.Statement) {
		t.Helper()
		_, err := m.registry.Configure(t.Context(), owner, "f", "", func(s *registry.Settings) error {
			s.Policy = nil
			if len(statements) > 0 {
				s.Policy = &registry.Policy{RevisionID: "r", Document: &policy.Document{Version: "2012-10-17", Statements: statements}}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	role := hearth.Identity{Account: other, ARN: "arn:aws:sts::222222222222:assumed-role/r/s"}
	bucket, source := hearth.Identity{Service: "s3.amazonaws.com"}, &hearth.Source{ARN: "arn:aws:s3:::b", Account: other}
	allow := func(p policy.Principals, conditions ...policy.Condition) policy.Statement {
		return policy.Statement{Effect: policy.Allow, Principal: &p, Action: []string{"lambda:InvokeFunction"}, Resource: []string{fn.ARN()}, Conditions: conditions}
	}
	denied := func() {
		t.Helper()
		for _, err := range []error{invoke(role, nil), invoke(bucket, source)} {
			if hearth.KindOf(err) != hearth.AccessDenied || !strings.HasSuffix(err.Error(), "is not authorized to perform: lambda:InvokeFunction on resource: "+fn.ARN()+" because no resource-based policy allows the lambda:InvokeFunction action") {
				t.Errorf("without a statement: %v", err)
			}
		}
		if err := invoke(hearth.Identity{Account: owner}, nil); err != nil {
			t.Errorf("the function's own account: %v", err)
		}
	}
	denied()
	set(allow(policy.Principals{AWS: []string{policy.AccountARN(string(other))}}),
		allow(policy.Principals{Service: []string{"s3.amazonaws.com"}}, policy.Condition{Operator: "ArnLike", Key: "AWS:SourceArn", Values: []string{"arn:aws:s3:::b"}}))
	if err := errors.Join(invoke(role, nil), invoke(bucket, source)); err != nil {
		t.Errorf("with a statement for each: %v", err)
	}
	if err := invoke(bucket, &hearth.Source{ARN: "arn:aws:s3:::c", Account: other}); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("for another bucket: %v", err)
	}
	set()
	denied()
}
