package server

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/s3"
)

func TestARecordOfFailureIsPutIntoItsBucket(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "records"), 0o755); err != nil {
		t.Fatal(err)
	}
	now := clock.NewFake(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	objects, err := s3.New(s3.Config{Endpoint: "file://" + dir, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	sender := (&Server{clock: now, objects: objects}).senders()["s3"]
	const record = `{"requestContext":{"functionArn":"arn:aws:lambda:us-east-1:000000000000:function:mine:$LATEST"}}`
	ctx := context.Background()
	if err := sender.Send(ctx, "arn:aws:s3:::records", []byte(record), nil); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(dir + "/records/aws/lambda/async/mine/2026/03/04/*")
	if err != nil || len(found) != 1 || !regexp.MustCompile(`/2026-03-04T05\.06\.07-[0-9a-f-]{36}$`).MatchString(found[0]) {
		t.Fatalf("found %q (%v)", found, err)
	}
	if text, err := os.ReadFile(found[0]); err != nil || string(text) != record {
		t.Errorf("it is %s (%v)", text, err)
	}
	for arn, want := range map[string]string{
		"arn:aws:s3:::other":        "the bucket other",
		"arn:aws:s3:::..":           "no file can have the name",
		"arn:aws:s3:::records/deep": "it is no bucket",
	} {
		if err := sender.Send(ctx, arn, []byte(record), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arn, err)
		}
	}
}
