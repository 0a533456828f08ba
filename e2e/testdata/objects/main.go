// Command objects prints what happened to objects, as aws-lambda-go reads it.
package main

import (
	"fmt"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(e events.S3Event) error {
		for _, r := range e.Records {
			fmt.Printf("GOT<%s %s/%s %d %s>\n", r.EventName, r.S3.Bucket.Name, r.S3.Object.URLDecodedKey, r.S3.Object.Size, r.S3.Object.ETag)
			if r.EventSource != "aws:s3" || r.AWSRegion != "us-east-1" || r.EventTime.IsZero() || r.PrincipalID.PrincipalID == "" ||
				r.S3.Bucket.Arn != "arn:aws:s3:::"+r.S3.Bucket.Name || r.S3.Object.Sequencer == "" || r.S3.SchemaVersion != "1.0" {
				fmt.Printf("WRONG<%+v>\n", r)
			}
		}
		return nil
	})
}
