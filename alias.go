package hearth

// Alias is a name for one version of a function, or for two by weight. A
// *Alias that was handed out is read-only.
type Alias struct {
	Account     Account
	Region      string
	Function    string // its name
	Name        string
	Version     string // Latest, LatestPublished or a number
	Description string
	// Weights gives another version's share of the invocations, 0 to 1; at
	// most one entry. The rest is Version's.
	Weights    map[string]float64
	RevisionID string
}

// ARN is the alias's ARN.
func (a *Alias) ARN() string {
	return "arn:aws:lambda:" + a.Region + ":" + string(a.Account) + ":function:" + a.Function + ":" + a.Name
}
