package e2e

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// javascript is a folder with what testdata/javascript/package.json names,
// installed once for all tests.
func javascript(t testing.TB) string {
	t.Helper()
	dir, err := installJavaScript()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var installJavaScript = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "javascript")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "javascript"))); err != nil {
		return "", err
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	_, err := output(cmd)
	return dir, err
})

func TestTheJavaScriptSDKDeploysInvokesUpdatesAndDeletes(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := javascript(t)
	z := zipOf(t, map[string]string{"index.mjs": "export const handler = async (e, c) => { if (e.fail) throw new RangeError('asked to'); return { v: process.env.VER, version: c.functionVersion }; };\n"})
	script := `
import assert from 'node:assert/strict';
import * as sdk from '@aws-sdk/client-lambda';
const c = new sdk.LambdaClient({ maxAttempts: 1 });
const FunctionName = 'javascript', wait = { client: c, maxWaitTime: 60, minDelay: 1, maxDelay: 1 };
const ZipFile = Buffer.from('` + base64.StdEncoding.EncodeToString(z) + `', 'base64');
const send = (name, input = {}) => c.send(new sdk[name + 'Command']({ FunctionName, ...input }));
const invoke = async (Payload, more = {}) => {
  const r = await send('Invoke', { Payload: JSON.stringify(Payload), ...more });
  return [JSON.parse(Buffer.from(r.Payload).toString()), r];
};
await send('CreateFunction', { Runtime: 'nodejs20.x', Handler: 'index.handler', Role: 'arn:aws:iam::000000000000:role/r',
  Code: { ZipFile }, Environment: { Variables: { VER: '1' } }, Tags: { team: 'a' } });
await sdk.waitUntilFunctionActiveV2(wait, { FunctionName });
let [body, r] = await invoke({});
assert.deepEqual(body, { v: '1', version: '$LATEST' });
assert.equal(r.ExecutedVersion, '$LATEST');
[body, r] = await invoke({ fail: true });
assert.equal(r.FunctionError, 'Unhandled');
assert.equal(body.errorType, 'RangeError');
const one = await send('PublishVersion');
await sdk.waitUntilPublishedVersionActive(wait, { FunctionName, Qualifier: one.Version });
await send('CreateAlias', { Name: 'live', FunctionVersion: one.Version });
await send('UpdateFunctionConfiguration', { Environment: { Variables: { VER: '2' } } });
await sdk.waitUntilFunctionUpdatedV2(wait, { FunctionName });
assert.equal((await invoke({}))[0].v, '2');
[body, r] = await invoke({}, { Qualifier: 'live' });
assert.deepEqual(body, { v: '1', version: '1' });
assert.equal(r.ExecutedVersion, '1');
await assert.rejects(send('DeleteFunction', { Qualifier: '1' }), sdk.ResourceConflictException);
await assert.rejects(send('UpdateAlias', { Name: 'live', RevisionId: 'stale' }), sdk.PreconditionFailedException);
await assert.rejects(send('CreateFunction', { Runtime: 'cobol', Handler: 'x', Role: 'arn:aws:iam::000000000000:role/r', Code: { ZipFile } }), sdk.InvalidParameterValueException);
const listed = [];
for await (const page of sdk.paginateListVersionsByFunction({ client: c, pageSize: 1 }, { FunctionName })) listed.push(...page.Versions.map(v => v.Version));
assert.deepEqual(listed, ['$LATEST', '1']);
await send('DeleteFunction');
await assert.rejects(send('GetFunction'), sdk.ResourceNotFoundException);
console.log('done');
`
	if err := os.WriteFile(filepath.Join(dir, "life.mjs"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.run(dir, "node", "life.mjs"); strings.TrimSpace(out) != "done" {
		t.Error(out)
	}
}
