// Package account keeps the accounts of a server and their access keys.
//
// One account is the operator's: the one of the data folder's credentials,
// whose root makes and ends all others. An account is Active; or Suspended,
// when nothing that is signed for it is let in and nothing of it runs, while
// all of it is kept; or being deleted. A [Directory] tells the state of each
// from memory, without a lock, since every request asks for it.
//
// [Keys] are the long-lived access keys of all accounts, of their roots and of
// their users, but for the operator's own first one, which is in the data
// folder. A key's secret is sealed on disk and in memory while the server runs.
package account
