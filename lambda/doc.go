// Package lambda speaks the AWS Lambda API over HTTP: it routes and decodes
// requests, checks their signatures, maps the operations to the registry and
// the frontend, and encodes the answers. The few neighbours that Lambda tools
// need are on the same endpoint: CloudWatch Logs (reading, and groups), and what
// speaks the query protocol, STS and IAM, whose operations are in package
// iam/wire.
//
// The wire comes from the SDK. Package schemas of aws-sdk-go-v2/service/lambda
// lists every operation's method, path and success code and where each member
// is bound (label, query, header, payload, body); its output types serialize
// themselves against those schemas. So one router, one binder and one encoder
// serve all operations, and an operation that Hearth does not have yet is
// still routed, checked and answered by name.
//
// Invoke is the exception: it is the warm path, and its handful of headers are
// read by hand (invoke.go). TestInvokeByHandReadsWhatTheSchemaBinds holds the
// two together.
package lambda
