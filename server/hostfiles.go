package server

import "github.com/hearth-faas/hearth"

// mayReadHost tells whether an account may have the server read a file of its
// machine, as the user that the server runs as: the operator's alone may, since
// other accounts' things are files, too. What names it may be a path or a URL.
func (s *Server) mayReadHost(account hearth.Account, what string) error {
	if account == s.accounts.Operator() {
		return nil
	}
	return hearth.Errorf(hearth.AccessDenied, "%.200s is a file of the server's machine, which is for the operator's account alone.", what)
}
