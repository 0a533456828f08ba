package wire

import (
	"strings"
	"sync"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/account"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

// service is IAM over a directory.
type service struct {
	dir    *iam.Directory
	keys   *account.Keys
	judge  *access.Judge
	region string
	since  func(hearth.Account) time.Time
	// keysChanging is held while a key is made and while a user is deleted, so
	// that no key is of nobody.
	keysChanging sync.Mutex
}

// IAM serves IAM: what deployers of functions ask of it, users with their keys,
// groups, roles and policies. The judge says who may, and what simulations come
// to; nil is that everybody of the account may. Roles are used in the region;
// since is when an account was made.
func IAM(dir *iam.Directory, keys *account.Keys, judge *access.Judge, region string, since func(hearth.Account) time.Time) *query.Service {
	s := &service{dir: dir, keys: keys, judge: judge, region: region, since: since}
	return &query.Service{
		Name: "IAM", Version: "2010-05-08", Namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
		Beyond: beyond, Authorize: s.authorize,
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

			"CreateUser":                    query.Serve(members, s.createUser),
			"GetUser":                       query.Serve(members, s.getUser),
			"ListUsers":                     query.Serve(members, s.listUsers),
			"UpdateUser":                    query.Serve(members, s.updateUser),
			"DeleteUser":                    query.Serve(members, s.deleteUser),
			"PutUserPermissionsBoundary":    query.Serve(members, s.putUserPermissionsBoundary),
			"DeleteUserPermissionsBoundary": query.Serve(members, s.deleteUserPermissionsBoundary),
			"TagUser":                       query.Serve(members, s.tagUser),
			"UntagUser":                     query.Serve(members, s.untagUser),
			"ListUserTags":                  query.Serve(members, s.listUserTags),
			"PutUserPolicy":                 query.Serve(members, s.putUserPolicy),
			"GetUserPolicy":                 query.Serve(members, s.getUserPolicy),
			"DeleteUserPolicy":              query.Serve(members, s.deleteUserPolicy),
			"ListUserPolicies":              query.Serve(members, s.listUserPolicies),
			"AttachUserPolicy":              query.Serve(members, s.attachUserPolicy),
			"DetachUserPolicy":              query.Serve(members, s.detachUserPolicy),
			"ListAttachedUserPolicies":      query.Serve(members, s.listAttachedUserPolicies),

			"ListMFADevices":                 query.Serve(members, s.listNothingOfUser),
			"ListVirtualMFADevices":          query.Serve(members, s.listNothingOfUser),
			"ListSSHPublicKeys":              query.Serve(members, s.listNothingOfUser),
			"ListSigningCertificates":        query.Serve(members, s.listNothingOfUser),
			"ListServiceSpecificCredentials": query.Serve(members, s.listNothingOfUser),
			"GetLoginProfile":                query.Serve(members, s.loginProfile),
			"DeleteLoginProfile":             query.Serve(members, s.loginProfile),

			"CreateAccessKey":      query.Serve(members, s.createAccessKey),
			"ListAccessKeys":       query.Serve(members, s.listAccessKeys),
			"UpdateAccessKey":      query.Serve(members, s.updateAccessKey),
			"DeleteAccessKey":      query.Serve(members, s.deleteAccessKey),
			"GetAccessKeyLastUsed": query.Serve(members, s.getAccessKeyLastUsed),

			"CreateGroup":               query.Serve(members, s.createGroup),
			"GetGroup":                  query.Serve(members, s.getGroup),
			"ListGroups":                query.Serve(members, s.listGroups),
			"ListGroupsForUser":         query.Serve(members, s.listGroupsForUser),
			"UpdateGroup":               query.Serve(members, s.updateGroup),
			"DeleteGroup":               query.Serve(members, s.deleteGroup),
			"AddUserToGroup":            query.Serve(members, s.addUserToGroup),
			"RemoveUserFromGroup":       query.Serve(members, s.removeUserFromGroup),
			"PutGroupPolicy":            query.Serve(members, s.putGroupPolicy),
			"GetGroupPolicy":            query.Serve(members, s.getGroupPolicy),
			"DeleteGroupPolicy":         query.Serve(members, s.deleteGroupPolicy),
			"ListGroupPolicies":         query.Serve(members, s.listGroupPolicies),
			"AttachGroupPolicy":         query.Serve(members, s.attachGroupPolicy),
			"DetachGroupPolicy":         query.Serve(members, s.detachGroupPolicy),
			"ListAttachedGroupPolicies": query.Serve(members, s.listAttachedGroupPolicies),

			"ListAccountAliases": query.Serve(members, s.listAccountAliases),

			"SimulatePrincipalPolicy":          query.Serve(members, s.simulatePrincipalPolicy),
			"SimulateCustomPolicy":             query.Serve(members, s.simulateCustomPolicy),
			"GetContextKeysForPrincipalPolicy": query.Serve(members, s.contextKeysForPrincipal),
			"GetContextKeysForCustomPolicy":    query.Serve(members, s.contextKeysForCustom),
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
				return "IAM's operation " + action + " is not built in this version of Hearth: it has users with access keys, groups, roles, their policies and managed policies."
			}
		}
	}
	return ""
}
