package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/internal/sdkhttp"
)

// remote is a server, seen through its public APIs.
type remote struct {
	endpoint, region string
	credentials      aws.Credentials
	data             string // the data folder it was found by; "" if by the environment
	running          control.Running

	lambda  *lambda.Client
	sts     *sts.Client
	control *control.Client
}

// connect finds the server to talk to. The environment counts if it names
// both an endpoint and credentials, as hearth env sets them, and neither
// --data nor --endpoint says otherwise: AWS credentials alone never do, since
// they may be for AWS. It does not call the server yet.
func (a *app) connect() (*remote, error) {
	r := &remote{}
	if a.profile != "" {
		if err := a.connectByProfile(r); err != nil {
			return nil, err
		}
	} else if a.data == "" && a.endpoint == "" && a.getenv("AWS_ENDPOINT_URL") != "" && a.getenv("AWS_ACCESS_KEY_ID") != "" {
		r.endpoint = a.getenv("AWS_ENDPOINT_URL")
		r.region = firstOf(a.getenv("AWS_REGION"), a.getenv("AWS_DEFAULT_REGION"), hearth.DefaultRegion)
		r.credentials = aws.Credentials{
			AccessKeyID: a.getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: a.getenv("AWS_SECRET_ACCESS_KEY"),
			SessionToken: a.getenv("AWS_SESSION_TOKEN"), Source: "environment",
		}
	} else if err := a.connectByFolder(r); err != nil {
		return nil, err
	}
	r.dial()
	return r, nil
}

// dial makes the clients of what is known of the server.
func (r *remote) dial() {
	static := credentials.StaticCredentialsProvider{Value: r.credentials}
	client := &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 64,
	}}
	// A throttle or a failure is the answer, and an invocation that may have
	// run is not for us to repeat.
	noRetry := func() aws.Retryer { return aws.NopRetryer{} }
	cfg := aws.Config{
		Region: r.region, Credentials: static, HTTPClient: sdkhttp.Client{C: client},
		BaseEndpoint: &r.endpoint, Retryer: noRetry,
	}
	r.lambda, r.sts = lambda.NewFromConfig(cfg), sts.NewFromConfig(cfg)
	r.control = &control.Client{Endpoint: r.endpoint, Region: r.region, Credentials: static, HTTP: client}
}

// list connects and shows what get gets: as JSON, or as show does. what is how
// all of it is called when it can't be got.
func list[L any](ctx context.Context, a *app, what string, get func(*control.Client, context.Context) (L, error), show func(r *remote, all L) error) error {
	r, err := a.connect()
	if err != nil {
		return err
	}
	all, err := get(r.control, ctx)
	if err != nil {
		return r.failure("can't list "+what, err)
	}
	if a.json {
		return a.printJSON(all)
	}
	return show(r, all)
}

// each connects, and does to each of the names what do does, one after the other
// until one fails, whose error is that of do. did is what is said of each.
func (a *app) each(names []string, did string, do func(r *remote, name string) error) error {
	r, err := a.connect()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := do(r, name); err != nil {
			return err
		}
		if !a.json {
			fmt.Fprintf(a.out, "%s is %s\n", a.bold(name), did)
		}
	}
	if a.json {
		return a.printJSON(names)
	}
	return nil
}

// connectByProfile takes endpoint, region and credentials from a profile of the
// AWS command line's files. One that names no endpoint is not Hearth's.
func (a *app) connectByProfile(r *remote) error {
	p, err := config.LoadSharedConfigProfile(context.Background(), a.profile, func(o *config.LoadSharedConfigOptions) {
		if f := a.getenv("AWS_CONFIG_FILE"); f != "" {
			o.ConfigFiles = []string{f}
		}
		if f := a.getenv("AWS_SHARED_CREDENTIALS_FILE"); f != "" {
			o.CredentialsFiles = []string{f}
		}
	})
	if err != nil {
		return failed("the profile "+a.profile+" can't be read", err, "Put it into ~/.aws/config and ~/.aws/credentials, as hearth account create tells.")
	}
	r.endpoint, r.region, r.credentials = p.BaseEndpoint, firstOf(p.Region, hearth.DefaultRegion), p.Credentials
	if a.endpoint != "" {
		r.endpoint = a.endpoint
	}
	switch {
	case r.endpoint == "":
		return refused("the profile "+a.profile+" names no endpoint", "Add endpoint_url = URL to it in ~/.aws/config, or say --endpoint URL.")
	case !r.credentials.HasKeys():
		return refused("the profile "+a.profile+" has no keys", "Add aws_access_key_id and aws_secret_access_key to it in ~/.aws/credentials.")
	}
	return nil
}

// connectByFolder finds the server by what it leaves in its data folder.
func (a *app) connectByFolder(r *remote) error {
	dir := a.dataDir()
	r.data = a.data
	running, err := control.ReadRunning(dir)
	switch {
	case err == nil:
		r.running = running
		r.endpoint, r.region = running.Endpoint, running.Region
	case a.endpoint != "" && errors.Is(err, fs.ErrNotExist): // the credentials may be there all the same
	case errors.Is(err, fs.ErrNotExist):
		return noServer(dir, r.dataFlag())
	case errors.Is(err, fs.ErrPermission):
		return failed("the data folder "+dir+" can't be read", err, "Run this as the user that runs the server, or set AWS_ENDPOINT_URL and credentials.")
	default:
		return failed("the data folder "+dir+" does not tell where the server is", err, "")
	}
	if a.endpoint != "" {
		r.endpoint = a.endpoint
	}
	root, err := identity.ReadRoot(dir)
	if err != nil {
		way := "Run this as the user that runs the server, or name its folder with --data."
		if a.endpoint != "" {
			way = "With --endpoint, say whose credentials to use by --profile, or --data; those of the environment go with AWS_ENDPOINT_URL."
		}
		return failed("the credentials in "+dir+" can't be read", err, way)
	}
	r.credentials = aws.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey.Reveal(), Source: dir}
	if r.running.Account == "" {
		r.running.Account, r.region = root.Account, root.Region
	}
	return nil
}

func noServer(dir, dataFlag string) *failure {
	return refused("no server runs on the data folder "+dir,
		"Start one with: hearth up"+dataFlag+", or name another folder with --data.")
}

// dataFlag is what must be added to a command so that it means this server.
func (r *remote) dataFlag() string {
	if r.data == "" {
		return ""
	}
	return " --data " + shellQuote(r.data)
}

func firstOf(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}

// account asks the server whose credentials these are.
func (r *remote) account(ctx context.Context) (hearth.Account, error) {
	if r.running.Account != "" {
		return r.running.Account, nil
	}
	out, err := r.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return hearth.Account(aws.ToString(out.Account)), nil
}
