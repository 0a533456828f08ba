package wire

import (
	"net/url"

	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

const nameExpr = `[\w+=,.@-]+`

func nameOf(what string, max int) query.Constraint {
	return query.Constraint{
		Min: 1, Max: max, Pattern: query.Pattern(nameExpr),
		Message: "The specified value for " + what + " is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-",
	}
}

const textExpr = `[\x{0009}\x{000A}\x{000D}\x{0020}-\x{00FF}]+`

var (
	document = query.Constraint{Min: 1, Max: 131072, Pattern: query.Pattern(textExpr),
		Message: "The specified value for policyDocument is invalid. It must contain only printable ASCII and Latin-1 characters."}
	path = query.Constraint{Min: 1, Max: 512, Pattern: query.Pattern(`(/)|(/[\x{0021}-\x{007E}]+/)`),
		Message: "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters."}
)

// members are the constraints of IAM's members.
var members = query.Members{
	"RoleName":   nameOf("roleName", 64),
	"PolicyName": nameOf("policyName", 128),
	"UserName":   nameOf("userName", 64),
	"GroupName":  nameOf("groupName", 128),
	// Under new names, what the names must be.
	"NewUserName":  nameOf("newUserName", 64),
	"NewGroupName": nameOf("newGroupName", 128),
	"NewPath":      path,
	"AccessKeyId":  {Min: 16, Max: 128, Pattern: query.Pattern(`[\w]+`)},
	"Status":       {Enum: []string{"Active", "Inactive"}},
	"Path":         path,
	"PathPrefix": {Min: 1, Max: 512, Pattern: query.Pattern(`/[\x{0021}-\x{007E}]*`),
		Message: "The specified value for pathPrefix is invalid. It must begin with /."},
	"AssumeRolePolicyDocument": document,
	"PolicyDocument":           document,
	"Description":              {Max: 1000},
	"MaxSessionDuration":       {Min: iam.MinSession, Max: iam.MaxSession},
	"PermissionsBoundary":      {Min: 20, Max: 2048},
	"PolicyArn":                {Min: 20, Max: 2048},
	"VersionId":                {Pattern: query.Pattern(`v[1-9][0-9]*(\.[A-Za-z0-9-]*)?`)},
	"PolicySourceArn":          {Min: 20, Max: 2048},
	"CallerArn":                {Min: 1, Max: 2048},
	"ResourceOwner":            {Min: 1, Max: 2048},
	"ResourcePolicy":           document,
	"ContextKeyName":           {Min: 5, Max: 256},
	"ContextKeyType":           {Enum: []string{"string", "stringList", "numeric", "numericList", "boolean", "booleanList", "ip", "ipList", "binary", "binaryList", "date", "dateList"}},
	"Marker":                   {Min: 1, Max: 320},
	"MaxItems":                 {Min: 1, Max: 1000},
	"Scope":                    {Enum: []string{"All", "AWS", "Local"}},
	"EntityFilter":             {Enum: []string{"User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"}},
	"PolicyUsageFilter":        {Enum: []string{"PermissionsPolicy", "PermissionsBoundary"}},
	"Tags":                     {Max: iam.MaxTags},
	"TagKeys":                  {Max: iam.MaxTags},
	"Key":                      {Min: 1, Max: 128, Pattern: query.Pattern(`[\p{L}\p{Z}\p{N}_.:/=+\-@]+`)},
	"Value":                    {Max: 256, Pattern: query.Pattern(`[\p{L}\p{Z}\p{N}_.:/=+\-@]*`)},
}

// paging is how an input asks for a page.
type paging struct {
	Marker   string
	MaxItems *int
}

func (p paging) page(path string) iam.Page {
	page := iam.Page{Path: path, Marker: p.Marker}
	if p.MaxItems != nil {
		page.Max = *p.MaxItems
	}
	return page
}

// paged is how an output tells that there is more.
type paged struct {
	IsTruncated bool
	Marker      string `xml:",omitempty"`
}

func next(marker string) paged { return paged{marker != "", marker} }

// tag is a tag in an input and in an output.
type tag struct {
	Key   string `query:"required"`
	Value *string
}

func tagsOf(in []tag) (tags []iam.Tag) {
	for _, t := range in {
		value := ""
		if t.Value != nil {
			value = *t.Value
		}
		tags = append(tags, iam.Tag{Key: t.Key, Value: value})
	}
	return tags
}

func tagList(tags []iam.Tag) query.List[tag] {
	list := query.List[tag]{}
	for _, t := range tags {
		list = append(list, tag{t.Key, &t.Value})
	}
	return list
}

// encoded is a document as answers have it.
func encoded(document string) string {
	return url.PathEscape(document)
}

type tagsOutput struct {
	Tags query.List[tag]
	paged
}
