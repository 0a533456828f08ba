package lambda

import (
	"slices"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"pgregory.net/rapid"
)

const (
	queueARN  = "arn:aws:sqs:us-east-1:000000000000:q"
	streamARN = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	tableARN  = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2025-02-17T16:33:01.784"
)

// createMapping makes a mapping and waits until it rests.
func (w *world) createMapping(in *sdk.CreateEventSourceMappingInput) *sdk.CreateEventSourceMappingOutput {
	w.t.Helper()
	made, err := w.lambda.CreateEventSourceMapping(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	w.restingMapping(*made.UUID)
	return made
}

// restingMapping waits until the mapping is in no transition. What settles it
// gives no event to wait on but the state itself.
func (w *world) restingMapping(id string) *sdk.GetEventSourceMappingOutput {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		m, err := w.lambda.GetEventSourceMapping(w.t.Context(), &sdk.GetEventSourceMappingInput{UUID: &id})
		if err != nil {
			w.t.Fatal(err)
		}
		if *m.State == "Enabled" || *m.State == "Disabled" {
			return m
		}
	}
	w.t.Fatalf("the mapping %s does not settle", id)
	return nil
}

func provokeMappings(p *provoker) {
	ctx := p.t.Context()
	p.create("hello")
	create := func(edit func(*sdk.CreateEventSourceMappingInput)) {
		p.t.Helper()
		in := &sdk.CreateEventSourceMappingInput{FunctionName: new("hello"), EventSourceArn: new(queueARN)}
		edit(in)
		p.try(failed(p.lambda.CreateEventSourceMapping(ctx, in)))
	}
	create(func(in *sdk.CreateEventSourceMappingInput) { in.EventSourceArn = nil })
	create(func(in *sdk.CreateEventSourceMappingInput) {
		in.EventSourceArn = new("arn:aws:ec2:us-east-1:000000000000:x")
	})
	create(func(in *sdk.CreateEventSourceMappingInput) { in.FunctionName = new("doesnotexist") })
	create(func(in *sdk.CreateEventSourceMappingInput) {
		in.DestinationConfig = &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: new(queueARN)}}
	})
	create(func(in *sdk.CreateEventSourceMappingInput) { in.EventSourceArn = new(streamARN) })
	create(func(in *sdk.CreateEventSourceMappingInput) {
		in.EventSourceArn, in.StartingPosition = new(streamARN), "invalid"
	})
	create(func(in *sdk.CreateEventSourceMappingInput) {
		in.EventSourceArn, in.StartingPosition, in.StartingPositionTimestamp = new(tableARN), "AT_TIMESTAMP", new(testNow)
	})
	kafka := func(brokers ...string) func(*sdk.CreateEventSourceMappingInput) {
		return func(in *sdk.CreateEventSourceMappingInput) {
			in.EventSourceArn, in.Topics = nil, []string{"topic"}
			in.SelfManagedEventSource = &types.SelfManagedEventSource{Endpoints: map[string][]string{"KAFKA_BOOTSTRAP_SERVERS": brokers}}
			in.SourceAccessConfigurations = []types.SourceAccessConfiguration{{Type: types.SourceAccessTypeBasicAuth, URI: new("arn:aws:secretsmanager:us-east-1:000000000000:secret:s")}}
		}
	}
	create(func(in *sdk.CreateEventSourceMappingInput) {
		kafka("kafka:1000")(in)
		in.SourceAccessConfigurations = nil
	})
	first := &sdk.CreateEventSourceMappingInput{FunctionName: new("hello")}
	kafka("kafka:1000")(first)
	p.createMapping(first)
	create(kafka("kafka:1000"))
	create(kafka("kafka:1000", "kafka:2000"))

	missing := "arn:aws:lambda:us-east-1:000000000000:event-source-mapping:00000000-0000-0000-0000-000000000000"
	for _, arn := range []string{missing, missing + ":alias"} {
		p.try(failed(p.lambda.ListTags(ctx, &sdk.ListTagsInput{Resource: &arn})))
		p.try(failed(p.lambda.TagResource(ctx, &sdk.TagResourceInput{Resource: &arn, Tags: map[string]string{"a": "b"}})))
		p.try(failed(p.lambda.UntagResource(ctx, &sdk.UntagResourceInput{Resource: &arn, TagKeys: []string{"a"}})))
	}
	p.try(failed(p.lambda.GetEventSourceMapping(ctx, &sdk.GetEventSourceMappingInput{UUID: new("00000000-0000-0000-0000-000000000000")})))
	p.try(failed(p.lambda.DeleteEventSourceMapping(ctx, &sdk.DeleteEventSourceMappingInput{UUID: new("00000000-0000-0000-0000-000000000000")})))
}

func TestMappingsLiveAndAreListedByFunctionAndSource(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	fn := *w.create("hello").FunctionArn
	queue := w.createMapping(&sdk.CreateEventSourceMappingInput{FunctionName: new("hello"), EventSourceArn: new(queueARN), Tags: map[string]string{"team": "x"}})
	if *queue.State != "Creating" || *queue.StateTransitionReason != "USER_INITIATED" || *queue.BatchSize != 10 || *queue.MaximumBatchingWindowInSeconds != 0 ||
		*queue.FunctionArn != fn || queue.DestinationConfig != nil || queue.MaximumRetryAttempts != nil || queue.FunctionResponseTypes == nil {
		t.Errorf("made %+v", queue)
	}
	if m := w.restingMapping(*queue.UUID); *m.State != "Enabled" || *m.StateTransitionReason != "This version of Hearth does not read SQS sources: no records will arrive." {
		t.Errorf("%s: %s", *m.State, *m.StateTransitionReason)
	}
	stream := w.createMapping(&sdk.CreateEventSourceMappingInput{FunctionName: new(fn), EventSourceArn: new(streamARN), StartingPosition: "TRIM_HORIZON", Enabled: new(false)})
	if *stream.LastProcessingResult != "No records processed" || *stream.MaximumRetryAttempts != -1 || *stream.MaximumRecordAgeInSeconds != -1 ||
		*stream.ParallelizationFactor != 1 || *stream.TumblingWindowInSeconds != 0 || *stream.BisectBatchOnFunctionError || stream.DestinationConfig.OnFailure == nil {
		t.Errorf("made %+v", stream)
	}
	if m := w.restingMapping(*stream.UUID); *m.State != "Disabled" || *m.StateTransitionReason != "User action" {
		t.Errorf("%s: %s", *m.State, *m.StateTransitionReason)
	}
	list := func(in *sdk.ListEventSourceMappingsInput) (ids []string) {
		in.MaxItems = new(int32(1))
		pages := sdk.NewListEventSourceMappingsPaginator(w.lambda, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.EventSourceMappings {
				ids = append(ids, *m.UUID)
			}
		}
		slices.Sort(ids)
		return ids
	}
	both := []string{*queue.UUID, *stream.UUID}
	slices.Sort(both)
	for _, c := range []struct {
		in   sdk.ListEventSourceMappingsInput
		want []string
	}{
		{sdk.ListEventSourceMappingsInput{}, both},
		{sdk.ListEventSourceMappingsInput{FunctionName: new("hello")}, both},
		{sdk.ListEventSourceMappingsInput{FunctionName: new("other")}, nil},
		{sdk.ListEventSourceMappingsInput{FunctionName: new("hello"), EventSourceArn: new(queueARN)}, both[slices.Index(both, *queue.UUID):][:1]},
	} {
		if got := list(&c.in); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.in, got, c.want)
		}
	}
	tags, err := w.lambda.ListTags(ctx, &sdk.ListTagsInput{Resource: queue.EventSourceMappingArn})
	if err != nil || tags.Tags["team"] != "x" {
		t.Errorf("tags %v %v", tags, err)
	}
	_, err = w.lambda.CreateEventSourceMapping(ctx, &sdk.CreateEventSourceMappingInput{FunctionName: new("hello"), EventSourceArn: new(queueARN)})
	wantError(t, err, "ResourceConflictException", "already exists. Please update or delete the existing mapping with UUID "+*queue.UUID)
	gone, err := w.lambda.DeleteEventSourceMapping(ctx, &sdk.DeleteEventSourceMappingInput{UUID: queue.UUID})
	if err != nil || *gone.State != "Deleting" {
		t.Fatal(gone, err)
	}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err = w.lambda.GetEventSourceMapping(ctx, &sdk.GetEventSourceMappingInput{UUID: queue.UUID}); err != nil {
			break
		}
	}
	wantError(t, err, "ResourceNotFoundException", "The resource you requested does not exist.")
}

// TestUpdatingAMappingKeepsWhatIsNotNamedAndClearsWhatIsEmpty runs random
// updates against a model.
func TestUpdatingAMappingKeepsWhatIsNotNamedAndClearsWhatIsEmpty(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	made := w.createMapping(&sdk.CreateEventSourceMappingInput{FunctionName: new("hello"), EventSourceArn: new(queueARN)})
	type model struct {
		batch, window int32
		filter        string
		partial       bool
		concurrency   int32
		metric        bool
		state         string
	}
	now := model{batch: 10, state: "Enabled"}
	maybe := rapid.IntRange(0, 2) // leave, clear, set
	rapid.Check(t, func(t *rapid.T) {
		in := &sdk.UpdateEventSourceMappingInput{UUID: made.UUID}
		if maybe.Draw(t, "batch") == 2 {
			in.BatchSize = new(rapid.Int32Range(1, 10).Draw(t, "size"))
			now.batch = *in.BatchSize
		}
		if maybe.Draw(t, "window") == 2 {
			in.MaximumBatchingWindowInSeconds = new(rapid.Int32Range(0, 300).Draw(t, "seconds"))
			now.window = *in.MaximumBatchingWindowInSeconds
		}
		switch maybe.Draw(t, "filters") {
		case 1:
			in.FilterCriteria, now.filter = &types.FilterCriteria{Filters: []types.Filter{}}, ""
		case 2:
			now.filter = `{"body":{"kind":["` + rapid.StringMatching("[a-z]{1,5}").Draw(t, "kind") + `"]}}`
			in.FilterCriteria = &types.FilterCriteria{Filters: []types.Filter{{Pattern: new(now.filter)}}}
		}
		if n := maybe.Draw(t, "partial"); n > 0 {
			in.FunctionResponseTypes, now.partial = []types.FunctionResponseType{}, n == 2
			if n == 2 {
				in.FunctionResponseTypes = append(in.FunctionResponseTypes, types.FunctionResponseTypeReportBatchItemFailures)
			}
		}
		if n := maybe.Draw(t, "concurrency"); n > 0 {
			in.ScalingConfig, now.concurrency = &types.ScalingConfig{}, 0
			if n == 2 {
				now.concurrency = rapid.Int32Range(2, 1000).Draw(t, "most")
				in.ScalingConfig.MaximumConcurrency = new(now.concurrency)
			}
		}
		if n := maybe.Draw(t, "metric"); n > 0 {
			in.MetricsConfig, now.metric = &types.EventSourceMappingMetricsConfig{Metrics: []types.EventSourceMappingMetric{}}, n == 2
			if n == 2 {
				in.MetricsConfig.Metrics = append(in.MetricsConfig.Metrics, types.EventSourceMappingMetricEventCount)
			}
		}
		transition := "Updating"
		if n := maybe.Draw(t, "enabled"); n > 0 {
			in.Enabled = new(n == 2)
			switch {
			case n == 2 && now.state == "Disabled":
				transition, now.state = "Enabling", "Enabled"
			case n == 1 && now.state == "Enabled":
				transition, now.state = "Disabling", "Disabled"
			}
		}
		updated, err := w.lambda.UpdateEventSourceMapping(w.t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if *updated.State != transition {
			t.Fatalf("%s, want %s", *updated.State, transition)
		}
		m := w.restingMapping(*made.UUID)
		have := model{batch: *m.BatchSize, window: *m.MaximumBatchingWindowInSeconds, partial: len(m.FunctionResponseTypes) == 1, state: *m.State}
		if m.FilterCriteria != nil {
			have.filter = *m.FilterCriteria.Filters[0].Pattern
		}
		if m.ScalingConfig != nil {
			have.concurrency = *m.ScalingConfig.MaximumConcurrency
		}
		have.metric = m.MetricsConfig != nil
		if have != now {
			t.Fatalf("after %+v\nit is %+v\nwant  %+v", in, have, now)
		}
	})
}
