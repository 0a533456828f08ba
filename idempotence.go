package hearth

import "encoding/json"

// Idempotence is what a function's owner declares: that to run the function
// again with the same parameters changes nothing, and gives the same result,
// as long as none of its dependencies has changed (S14). The JSON is what users
// write.
//
// Its texts may be templates: ${$.a.b[0]} is a field of the event, ${env.NAME}
// a variable of the function's environment, ${secret.NAME} one of Secrets, and
// $${ stands for ${.
type Idempotence struct {
	// Parameters are the fields of the event that matter, such as $.bucket; the
	// whole event if empty.
	Parameters []string `json:"parameters,omitempty"`
	// Environment names the function's variables that matter; all if it is nil,
	// none if it is empty.
	Environment  *[]string    `json:"environment,omitempty"`
	Dependencies []Dependency `json:"dependencies,omitempty"`
	// TTLSeconds is how long a result is good at most; 0 is as long as nothing
	// has changed.
	TTLSeconds int `json:"ttlSeconds,omitempty"`
	// MaxRecords bounds how many results are kept; 0 is 1,000.
	MaxRecords int `json:"maxRecords,omitempty"`
	// Secrets are for the templates. They are kept sealed, and told to nobody:
	// what is shown has their names, and "". A secret that is set to "" stays
	// as it is.
	Secrets map[string]string `json:"secrets,omitempty"`
}

// Dependency is one thing outside of a function that its result depends on.
// Exactly one of S3, HTTP, File, SQL and Function says which; the fields below
// each belong to it.
type Dependency struct {
	S3 string `json:"s3,omitempty"` // s3://BUCKET/KEY
	// Endpoint is the server that has the bucket; "" is that of s3-endpoint.
	// Without keys it is asked unsigned.
	Endpoint        string `json:"endpoint,omitempty"`
	Region          string `json:"region,omitempty"`
	AccessKeyID     string `json:"accessKeyId,omitempty"`
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	SessionToken    string `json:"sessionToken,omitempty"`

	HTTP    string            `json:"http,omitempty"` // a URL, asked by HEAD
	Headers map[string]string `json:"headers,omitempty"`

	File string `json:"file,omitempty"` // an absolute path on the server's machine

	// SQL is a query whose rows are the state, in a read-only transaction of
	// Database: postgres://… or sqlite:///FILE. Args are its parameters ($1, …).
	SQL      string   `json:"sql,omitempty"`
	Database string   `json:"database,omitempty"`
	Args     []string `json:"args,omitempty"`

	// Function is another function of the account that is declared idempotent:
	// what its result depends on when it gets that event. Event is JSON whose
	// strings may be templates; a string that is nothing but one field of the
	// event stands for that field, whatever it is.
	Function  string          `json:"function,omitempty"`
	Qualifier string          `json:"qualifier,omitempty"`
	Event     json.RawMessage `json:"event,omitempty"`
}
