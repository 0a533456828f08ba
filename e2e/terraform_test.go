package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// pluginMirror is where terraform finds its provider on a machine without a
// way to the registry; elsewhere terraform fetches it.
const pluginMirror = "/opt/tf-plugins"

// terraform is a folder with the module of testdata/terraform.
type terraform struct {
	s   *server
	dir string
}

func newTerraform(t *testing.T, s *server) *terraform {
	t.Helper()
	module, err := os.ReadFile("testdata/terraform/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	tf := &terraform{s, t.TempDir()}
	handler := func(v string) string {
		return "import os\nimport lib\ndef handler(event, context):\n    return {'code': '" + v + "', 'stage': os.environ['STAGE'], 'lib': lib.name, 'version': context.function_version, 'event': event}\n"
	}
	tf.write("main.tf", string(module))
	tf.write("one.zip", string(zipOf(t, map[string]string{"index.py": handler("one")})))
	tf.write("two.zip", string(zipOf(t, map[string]string{"index.py": handler("two")})))
	tf.write("layer.zip", string(zipOf(t, map[string]string{"python/lib.py": "name = 'lib of the layer'\n"})))
	tf.init()
	return tf
}

// init fetches the module's provider.
func (tf *terraform) init() {
	tf.s.t.Helper()
	args := []string{"init"}
	if _, err := os.Stat(pluginMirror); err == nil {
		args = append(args, "-plugin-dir="+pluginMirror)
	}
	tf.run(args...)
}

func (tf *terraform) write(name, text string) {
	tf.s.t.Helper()
	if err := os.WriteFile(filepath.Join(tf.dir, name), []byte(text), 0o600); err != nil {
		tf.s.t.Fatal(err)
	}
}

// set writes the module's variables.
func (tf *terraform) set(variables map[string]any) {
	tf.s.t.Helper()
	variables["endpoint"] = tf.s.endpoint
	b, err := json.Marshal(variables)
	if err != nil {
		tf.s.t.Fatal(err)
	}
	tf.write("terraform.tfvars.json", string(b))
}

func (tf *terraform) run(args ...string) string {
	tf.s.t.Helper()
	args = append([]string{args[0], "-no-color"}, args[1:]...)
	cmd := exec.Command("terraform", args...)
	cmd.Dir = tf.dir
	cmd.Env = cleanEnv(append(tf.s.env, "TF_IN_AUTOMATION=1", "AWS_EC2_METADATA_DISABLED=true", "CHECKPOINT_DISABLE=1",
		// The provider reads its 1,500 schemas at each command: a quarter of what
		// that takes would go into collecting garbage.
		"GOGC=400")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		tf.s.t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// apply applies the module, and fails unless there is nothing left to do.
func (tf *terraform) apply() {
	tf.s.t.Helper()
	tf.run("apply", "-auto-approve", "-input=false")
	tf.run("plan", "-input=false", "-detailed-exitcode") // exit 2 if it would change anything
}

// outputs are the module's.
func (tf *terraform) outputs() map[string]any {
	tf.s.t.Helper()
	var all map[string]struct{ Value any }
	if err := json.Unmarshal([]byte(tf.run("output", "-json")), &all); err != nil {
		tf.s.t.Fatal(err)
	}
	values := map[string]any{}
	for name, o := range all {
		values[name] = o.Value
	}
	return values
}

// TestTerraformMakesChangesImportsAndDestroysEverything has Terraform make
// all that a deployer makes, at home: there is no server but this one.
func TestTerraformMakesChangesImportsAndDestroysEverything(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		lacking(t, "terraform is not here, and no package of Debian's has it")
	}
	t.Parallel()
	s := start(t)
	tf := newTerraform(t, s)
	answer := func(code, stage, version string) {
		t.Helper()
		want := map[string]any{"code": code, "stage": stage, "lib": "lib of the layer", "version": version, "event": map[string]any{"from": "terraform"}}
		if got := tf.outputs()["answer"]; !reflect.DeepEqual(got, want) {
			t.Errorf("the function answers %v, expected %v", got, want)
		}
	}

	tf.set(map[string]any{
		"code": "one.zip", "stage": "test", "origins": []string{"https://one.example"},
		"retention": 7, "batch": 10, "reserved": 5, "provisioned": 1,
	})
	tf.apply()
	answer("one", "test", "1")
	made := tf.outputs()

	tf.set(map[string]any{
		"code": "two.zip", "stage": "live", "origins": []string{"https://one.example", "https://two.example"},
		"canary": map[string]float64{"2": 0.25}, "retention": 14, "batch": 5, "reserved": 4, "provisioned": 2,
	})
	tf.apply()
	answer("two", "live", "2")

	var imports strings.Builder
	for to, id := range map[string]string{
		"aws_iam_role.f":                                   "terraform-f",
		"aws_iam_role_policy.inline":                       "terraform-f:queue",
		"aws_iam_user.deployer":                            "deployer",
		"aws_iam_user_policy.deployer":                     "deployer:invoke",
		"aws_iam_user_policy_attachment.deployer":          "deployer/arn:aws:iam::000000000000:policy/terraform-own",
		"aws_iam_access_key.deployer":                      made["key"].(string),
		"aws_iam_group.people":                             "people",
		"aws_iam_policy.own":                               "arn:aws:iam::000000000000:policy/terraform-own",
		"aws_iam_role_policy_attachment.own":               "terraform-f/arn:aws:iam::000000000000:policy/terraform-own",
		"aws_iam_role_policy_attachment.basic":             "terraform-f/arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
		"aws_cloudwatch_log_group.f":                       "/aws/lambda/terraform",
		"aws_lambda_layer_version.lib":                     "arn:aws:lambda:us-east-1:000000000000:layer:terraform-lib:1",
		"aws_lambda_layer_version_permission.lib":          "arn:aws:lambda:us-east-1:000000000000:layer:terraform-lib,1",
		"aws_lambda_code_signing_config.signed":            made["signing"].(string),
		"aws_lambda_event_source_mapping.jobs":             made["mapping"].(string),
		"aws_lambda_function.f":                            "terraform",
		"aws_lambda_alias.live":                            "terraform/live",
		"aws_lambda_alias.steady":                          "terraform/steady",
		"aws_lambda_provisioned_concurrency_config.steady": "terraform,steady",
		"aws_lambda_function_url.live":                     "terraform/live",
		"aws_lambda_permission.bucket":                     "terraform:live/bucket",
		"aws_lambda_function_event_invoke_config.live":     "terraform:live",
		"aws_lambda_runtime_management_config.f":           "terraform,",
		"aws_lambda_function_recursion_config.f":           "terraform",
		"aws_cloudwatch_event_bus.side":                    "side",
		"aws_cloudwatch_event_rule.orders":                 "side/orders",
		"aws_cloudwatch_event_target.f":                    "side/orders/f",
		"aws_cloudwatch_event_rule.often":                  "often",
		"aws_scheduler_schedule_group.g":                   "g",
		"aws_scheduler_schedule.daily":                     "g/daily",
	} {
		imports.WriteString("import {\n  to = " + to + "\n  id = \"" + id + "\"\n}\n")
	}
	tf.write("imports.tf", imports.String())
	if err := os.Remove(filepath.Join(tf.dir, "terraform.tfstate")); err != nil {
		t.Fatal(err)
	}
	tf.apply()
	if role := tf.outputs()["role"]; role != made["role"] {
		t.Errorf("imported the role %v, made was %v", role, made["role"])
	}

	tf.run("destroy", "-auto-approve", "-input=false")
	s.wantEmpty()
	left := s.run(tf.dir, "python3", "-c", `
import boto3
c = boto3.client("events")
s = boto3.client("scheduler")
print([b["Name"] for b in c.list_event_buses()["EventBuses"]], c.list_rules()["Rules"], [g["Name"] for g in s.list_schedule_groups()["ScheduleGroups"]], s.list_schedules()["Schedules"])
`)
	if strings.TrimSpace(left) != "['default'] [] ['default'] []" {
		t.Errorf("left are %s", left)
	}
}

// wantEmpty fails if anything that a deployer makes is there.
func (s *server) wantEmpty() {
	s.t.Helper()
	ctx, c := s.t.Context(), s.client()
	found := func(what string, n int) {
		s.t.Helper()
		if n != 0 {
			s.t.Errorf("%d %s are left", n, what)
		}
	}
	functions, err := c.ListFunctions(ctx, &lambda.ListFunctionsInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	found("functions", len(functions.Functions))
	layers, err := c.ListLayers(ctx, &lambda.ListLayersInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	found("layers", len(layers.Layers))
	mappings, err := c.ListEventSourceMappings(ctx, &lambda.ListEventSourceMappingsInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	found("event source mappings", len(mappings.EventSourceMappings))
	signing, err := c.ListCodeSigningConfigs(ctx, &lambda.ListCodeSigningConfigsInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	found("code signing configs", len(signing.CodeSigningConfigs))
	roles := iam.NewFromConfig(s.config())
	rs, err := roles.ListRoles(ctx, &iam.ListRolesInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	found("roles", len(rs.Roles))
	ps, err := roles.ListPolicies(ctx, &iam.ListPoliciesInput{Scope: iamtypes.PolicyScopeTypeLocal})
	if err != nil {
		s.t.Fatal(err)
	}
	found("policies", len(ps.Policies))
	gs, err := cloudwatchlogs.NewFromConfig(s.config()).DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	found("log groups", len(gs.LogGroups))
}
