// Package query speaks the AWS query protocol, as IAM and STS do: a form in,
// whose parameters are the input's members, XML out.
//
// A [Service] is a table of operations, each a function from an input struct to
// an output struct. Decoding (decode.go) and checking (check.go) go by the
// input's fields; encoding (encode.go) is encoding/xml with what the protocol
// wants beside it. The package knows no service.
package query
