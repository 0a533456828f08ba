// Package iam keeps roles and managed policies, as the IAM of AWS does, and
// tells who may take a role on.
//
// A [Directory] is the records of all accounts: roles (role.go) with their
// inline policies and what is attached to them (rolepolicies.go), and the
// accounts' own managed policies with their versions (policy.go). The managed
// policies that AWS offers to functions are there without being made
// (managed.go). Documents are parsed and checked when they come in, by package
// policy. What a role's policies allow is kept and not evaluated yet; who may
// take a role on is (assume.go).
//
// Errors are of IAM's kinds, in IAM's words.
package iam
