package manager

// Provider decides how many provisioned containers are made and let go for
// what was asked for under one qualifier of a function. That may be of two
// versions, of which an alias has left one: the old one's are kept until the
// new one's are there, or cannot be made, so that there is never less ready
// than before.
type Provider struct{}

// Pledge is what Provider sees of one version.
type Pledge struct {
	Want   int // none once the qualifier names another version
	Have   int // containers that can serve, or do
	Making int
}

// Step is what is to be done for one version: so many containers made, or so
// many let go.
type Step struct{ Make, LetGo int }

// Choose returns a Step for each Pledge. At most room containers are made.
// failing says that the last ones could not be made, held that it is too soon
// to try again.
func (Provider) Choose(pledges []Pledge, room int, failing, held bool) []Step {
	steps := make([]Step, len(pledges))
	complete := true
	for _, p := range pledges {
		complete = complete && p.Have >= p.Want
	}
	for i, p := range pledges {
		switch lacking := p.Want - p.Have - p.Making; {
		case lacking > 0:
			if !held {
				steps[i].Make = min(lacking, room)
				room -= steps[i].Make
			}
		case p.Want > 0 || complete || failing:
			steps[i].LetGo = max(p.Have-p.Want, 0)
		}
	}
	return steps
}
