// Package jwt checks JSON Web Tokens of OpenID issuers: by the issuers' public
// keys, which it asks for and keeps. HTTP APIs and proxy endpoints let in by it.
package jwt
