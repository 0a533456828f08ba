// Package wire is IAM and STS as their clients see them: the operations of both
// over the query protocol, on an [iam.Directory] and an [identity.Authority].
// What inputs and outputs have is written out here, since the SDK's packages
// would cost every start more than they save; the tests hold it against them.
package wire
