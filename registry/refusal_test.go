package registry_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/registry"
)

func TestRefusalsInTheServicesWords(t *testing.T) {
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.CodeStorage = 5000 })
	defer func() { w.close() }()
	f := w.create("f")
	sum := base64.StdEncoding.EncodeToString(func() []byte { s := sha256.Sum256(code("f")); return s[:] }())
	edit := func(change func(*hearth.Function)) error {
		g := function("g")
		change(&g)
		_, err := w.Create(ctx, registry.Create{Function: g, Zip: code("g")})
		return err
	}
	get := func(_ *hearth.Function, err error) error { return err }
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint(i)] = ""
	}
	const (
		badZip  = "Could not unzip uploaded file. Please check your file, then try to upload again."
		both    = "Runtime and Handler are mandatory parameters for functions created with deployment packages."
		version = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
	)
	noise := make([]byte, 6000)
	for i := range noise {
		noise[i] = byte(sha256.Sum256([]byte(fmt.Sprint(i)))[0])
	}
	for name, c := range map[string]struct {
		err     error
		kind    hearth.Kind
		message string
	}{
		"exists":              {edit(func(g *hearth.Function) { g.Name = "f" }), hearth.Conflict, "Function already exist: f"},
		"long name":           {edit(func(g *hearth.Function) { g.Name = strings.Repeat("a", 65) }), hearth.InvalidParameter, "1 validation error detected: Value '" + strings.Repeat("a", 65) + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		"name that is none":   {edit(func(g *hearth.Function) { g.Name = "a/b" }), hearth.Validation, "1 validation error detected: Value 'a/b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"},
		"no runtime":          {edit(func(g *hearth.Function) { g.Runtime = "" }), hearth.InvalidParameter, both},
		"no handler":          {edit(func(g *hearth.Function) { g.Handler = "" }), hearth.InvalidParameter, both},
		"retired runtime":     {edit(func(g *hearth.Function) { g.Runtime = "nodejs14.x" }), hearth.InvalidParameter, "The runtime parameter of nodejs14.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		"unknown runtime":     {edit(func(g *hearth.Function) { g.Runtime = "PYTHON3.9" }), hearth.InvalidParameter, "Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [" + strings.Join(registry.Runtimes(), ", ") + "] or be a valid ARN"},
		"much memory":         {edit(func(g *hearth.Function) { g.MemoryMiB = 10241 }), hearth.InvalidParameter, "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240"},
		"long timeout":        {edit(func(g *hearth.Function) { g.Timeout = 901 * time.Second }), hearth.Validation, "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"},
		"image":               {edit(func(g *hearth.Function) { g.PackageType = "Image" }), hearth.InvalidParameter, "Please provide ImageUri when creating a function with packageType Image."},
		"layer":               {edit(func(g *hearth.Function) { g.Layers = []hearth.Layer{{ARN: "arn:l:1"}} }), hearth.InvalidParameter, "Layer version arn:l:1 does not exist."},
		"reserved variable":   {edit(func(g *hearth.Function) { g.Env = map[string]string{"AWS_REGION": "x", "_HANDLER": "y", "A": "b"} }), hearth.InvalidParameter, "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: _HANDLER, AWS_REGION"},
		"large environment":   {edit(func(g *hearth.Function) { g.Env = map[string]string{"LARGE_VAR": strings.Repeat("<", 4081)} }), hearth.InvalidParameter, `Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {"LARGE_VAR":"` + strings.Repeat("<", 4081) + `"}`},
		"bad zip":             {get(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: []byte("no zip")})), hearth.InvalidParameter, badZip},
		"storage":             {get(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code(string(noise))})), hearth.CodeStorageExceeded, "Code storage limit exceeded."},
		"revision of code":    {get(w.UpdateCode(ctx, account, "f", registry.UpdateCode{Zip: code("x"), RevisionID: "old"})), hearth.PreconditionFailed, version},
		"revision of config":  {get(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{RevisionID: "old"})), hearth.PreconditionFailed, version},
		"revision of publish": {get(w.Publish(ctx, account, "f", registry.Publish{RevisionID: "old"})), hearth.PreconditionFailed, version},
		"runtime of update":   {get(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Runtime: new("go1.x")})), hearth.InvalidParameter, "The runtime parameter of go1.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		"sha":                 {get(w.Publish(ctx, account, "f", registry.Publish{CodeSHA256: "somenonexistentsha256"})), hearth.InvalidParameter, "CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST (" + sum + "). Please try again with the CodeSHA256 in $LATEST."},
		"get":                 {get(w.Get(ctx, account, "none", "")), hearth.NotFound, "Function not found: " + arn + "none"},
		"resolve":             {get(w.Resolve(ctx, account, "none", "")), hearth.NotFound, "Function not found: " + arn + "none"},
		"resolve version":     {get(w.Resolve(ctx, account, "f", "10")), hearth.NotFound, "Function not found: " + arn + "f:10"},
		"resolve alias":       {get(w.Resolve(ctx, account, "f", "nosuchalias")), hearth.NotFound, "Function not found: " + arn + "f:nosuchalias"},
		"resolve $LATEST":     {get(w.Resolve(ctx, account, "none", "$LATEST")), hearth.NotFound, "Function not found: " + arn + "none:$LATEST"},
		"other account":       {get(w.Resolve(ctx, "222222222222", "f", "")), hearth.NotFound, "Function not found: arn:aws:lambda:us-east-1:222222222222:function:f"},
		"odd version":         {get(w.Get(ctx, account, "f", "01")), hearth.NotFound, "Function not found: " + arn + "f:01"},
		"delete":              {w.Delete(ctx, account, "none", ""), hearth.NotFound, "Function not found: " + arn + "none"},
		"delete version":      {w.Delete(ctx, account, "f", "1221"), hearth.NotFound, "Function not found: " + arn + "f:1221"},
		"delete $LATEST":      {w.Delete(ctx, account, "f", "$LATEST"), hearth.InvalidParameter, "$LATEST version cannot be deleted without deleting the function."},
		"tags of none":        {w.Tag(ctx, account, "none", map[string]string{"a": "b"}), hearth.NotFound, "Function not found: " + arn + "none"},
		"no tags":             {w.Tag(ctx, account, "f", nil), hearth.InvalidParameter, "An error occurred and the request cannot be processed."},
		"many tags":           {w.Tag(ctx, account, "f", many), hearth.InvalidParameter, "Number of tags exceeds resource tag limit."},
		"no tag keys":         {w.Untag(ctx, account, "f", nil), hearth.Validation, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, c.err, c.kind, c.message) })
	}
	if now := w.got(w.Get(ctx, account, "f", "")); now != f {
		t.Errorf("something was changed: %+v", now)
	}
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages are kept", n)
	}
	if u, err := w.Usage(ctx, account); u != (registry.Usage{CodeBytes: f.Package.Size, Functions: 1}) || err != nil {
		t.Errorf("usage %+v %v", u, err)
	}
	large := registry.Create{Function: function("g"), Zip: make([]byte, archive.Lambda.Zipped+1)}
	_, err := w.Create(ctx, large)
	wantError(t, err, hearth.EntityTooLarge, "Zipped size must be smaller than 262144000 bytes")
	for _, runtime := range []string{"provided", "provided.al2", "provided.al2023", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"} {
		w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{Runtime: &runtime}))
		w.settled("f")
	}
}

func TestADeadLetterTargetIsAQueueOrATopic(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	w.settled("f")
	for target, fits := range map[string]bool{
		"":                                     true,
		"arn:aws:sqs:us-east-1:111111111111:q": true,
		"arn:aws:sns:us-east-1:111111111111:t": true,
		"arn:aws:s3:::bucket":                  false,
		"arn:aws:sqs:us-east-1:111111111111":   false,
	} {
		_, err := w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{DeadLetterTarget: &target})
		if got := err == nil; got != fits || err != nil && hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%q: %v", target, err)
		}
		w.settled("f")
	}
}
