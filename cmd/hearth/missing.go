package main

import "strings"

// whereToLook says how to find out what there is, for commands whose server has
// answered that there is not what they name. What is named is a function, unless
// the command is of something else.
func whereToLook(f *failure, command string) string {
	if strings.Contains(f.reason, "hearth ") { // it says so itself
		return ""
	}
	switch {
	case strings.HasPrefix(f.reason, "Function not found: the task API "):
		return "hearth tasks lists the tasks that the account may call, by their names here."
	case strings.HasPrefix(f.reason, "Function not found"):
		return functionsAre
	}
	for _, w := range []struct{ command, way string }{
		{"account keys", "hearth account keys lists the own account's keys, hearth account keys ACCOUNT another's; the account is the last argument."},
		{"account", "hearth account list shows the accounts that there are."},
		{"audit", "hearth account list shows the accounts that there are."},
		{"bill", "hearth account list shows the accounts that there are."},
		{"can", "hearth account list shows the accounts; aws iam list-users and list-roles who is in one."},
		{"tasks subscribe", "Its owner tells OWNER/API; hearth tasks, as the owner, lists what there is."},
		{"tasks unsubscribe", "hearth tasks lists the subscriptions that the account has, by their names here."},
		{"tasks key", "hearth tasks lists the subscriptions that the account has, by their names here, hearth tasks key their keys."},
		{"tasks", "hearth tasks lists the account's task APIs, its subscriptions, and what was asked for; hearth tasks create NAME makes one."},
		{"proxy resource", "hearth proxy resource lists the resources that there are."},
		{"proxy key", "hearth proxy key lists the keys that there are."},
		{"proxy", "hearth proxy lists the proxy APIs that there are."},
		{"offer", "hearth offer lists what the account offers, and what is offered to it."},
		{"shared-alias", "hearth shared-alias lists those that there are, hearth offer what there is to accept."},
		{"source", "hearth source lists the event sources that there are."},
		{"backfill", "hearth backfill ls lists the backfills that there are."},
		{"parked", "hearth parked lists the events that are parked."},
		{"nodes", "hearth nodes lists the nodes that there are."},
		{"trigger", "hearth trigger ls lists the triggers that there are."},
		{"key", ""},
	} {
		if rest, ok := strings.CutPrefix(command, "hearth "+w.command); ok && (rest == "" || rest[0] == ' ') {
			return w.way
		}
	}
	return functionsAre
}

const functionsAre = "hearth ls shows the functions that there are."
