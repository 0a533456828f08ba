package sdkhttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth/internal/sdkhttp"
)

func TestLargeAnswersThatComeAtOnceAreReadWhole(t *testing.T) {
	payload := make([]byte, 64<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		_, _ = w.Write(payload)
	}))
	defer server.Close()
	client := lambda.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL, HTTPClient: sdkhttp.Client{},
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	})
	for range 200 {
		out, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("f"), Payload: []byte(`{}`)})
		if err != nil || len(out.Payload) != len(payload) {
			t.Fatalf("%v", err)
		}
	}
}
