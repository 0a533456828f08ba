package wire

import (
	"strings"
	"time"

	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

// service is IAM over a directory.
type service struct {
	dir    *iam.Directory
	region string
	since  time.Time
}

// IAM serves IAM: what deployers of functions ask of it, roles and policies.
// Roles are used in the region; since is when the account was made.
func IAM(dir *iam.Directory, region string, since time.Time) *query.Service {
	s := &service{dir, region, since}
	return &query.Service{
		Name: "IAM", Version: "2010-05-08", Namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
		Beyond: beyond,
		Operations: map[string]query.Operation{
			"CreateRole":                    query.Serve(members, s.createRole),
			"GetRole":                       query.Serve(members, s.getRole),
			"ListRoles":                     query.Serve(members, s.listRoles),
			"UpdateRole":                    query.Serve(members, s.updateRole),
			"UpdateRoleDescription":         query.Serve(members, s.updateRoleDescription),
			"UpdateAssumeRolePolicy":        query.Serve(members, s.updateAssumeRolePolicy),
			"DeleteRole":                    query.Serve(members, s.deleteRole),
			"PutRolePermissionsBoundary":    query.Serve(members, s.putRolePermissionsBoundary),
			"DeleteRolePermissionsBoundary": query.Serve(members, s.deleteRolePermissionsBoundary),
			"TagRole":                       query.Serve(members, s.tagRole),
			"UntagRole":                     query.Serve(members, s.untagRole),
			"ListRoleTags":                  query.Serve(members, s.listRoleTags),
			"ListInstanceProfilesForRole":   query.Serve(members, s.listInstanceProfilesForRole),

			"PutRolePolicy":            query.Serve(members, s.putRolePolicy),
			"GetRolePolicy":            query.Serve(members, s.getRolePolicy),
			"DeleteRolePolicy":         query.Serve(members, s.deleteRolePolicy),
			"ListRolePolicies":         query.Serve(members, s.listRolePolicies),
			"AttachRolePolicy":         query.Serve(members, s.attachRolePolicy),
			"DetachRolePolicy":         query.Serve(members, s.detachRolePolicy),
			"ListAttachedRolePolicies": query.Serve(members, s.listAttachedRolePolicies),

			"CreatePolicy":            query.Serve(members, s.createPolicy),
			"GetPolicy":               query.Serve(members, s.getPolicy),
			"DeletePolicy":            query.Serve(members, s.deletePolicy),
			"ListPolicies":            query.Serve(members, s.listPolicies),
			"ListEntitiesForPolicy":   query.Serve(members, s.listEntitiesForPolicy),
			"CreatePolicyVersion":     query.Serve(members, s.createPolicyVersion),
			"GetPolicyVersion":        query.Serve(members, s.getPolicyVersion),
			"ListPolicyVersions":      query.Serve(members, s.listPolicyVersions),
			"SetDefaultPolicyVersion": query.Serve(members, s.setDefaultPolicyVersion),
			"DeletePolicyVersion":     query.Serve(members, s.deletePolicyVersion),
			"TagPolicy":               query.Serve(members, s.tagPolicy),
			"UntagPolicy":             query.Serve(members, s.untagPolicy),
			"ListPolicyTags":          query.Serve(members, s.listPolicyTags),

			"GetUser":            query.Serve(members, s.getUser),
			"ListAccountAliases": query.Serve(members, s.listAccountAliases),
		},
	}
}

// beyond tells of IAM's operations that Hearth does not have. They are known
// by the verb and the sort of thing that their names are made of.
func beyond(action string) string {
	for _, verb := range []string{
		"Accept", "Acquire", "Add", "Associate", "Attach", "Change", "Create", "Deactivate", "Delete", "Detach", "Disable", "Enable", "Generate",
		"Get", "List", "Put", "Reject", "Remove", "Reset", "Resync", "Send", "Set", "Simulate", "Tag", "Untag", "Update", "Upload",
	} {
		rest, ok := strings.CutPrefix(action, verb)
		if !ok || rest == "" || rest[0] < 'A' || rest[0] > 'Z' {
			continue
		}
		for _, thing := range []string{
			"AccessKey", "Account", "Certificate", "Client", "ContextKeys", "Credential", "Delegation", "Entities", "Entity", "Group", "InstanceProfile",
			"LoginProfile", "MFADevice", "OpenIDConnect", "Organizations", "Outbound", "Password", "Polic", "PublicKey", "Role", "SAML", "SSH", "Security", "Service", "Signing", "Summary", "User",
		} {
			if strings.Contains(rest, thing) {
				return "IAM's operation " + action + " is not built in this version of Hearth: it has roles, their policies and managed policies, and one user, root."
			}
		}
	}
	return ""
}
