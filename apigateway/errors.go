package apigateway

import hearth "github.com/hearth-faas/hearth"

func notFound(what, id string) error {
	return &hearth.Error{Op: "apigateway", Subject: id, Kind: hearth.NotFound, Message: "Invalid " + what + " identifier specified " + id}
}

// forget takes what has the key out of m. Errors: NotFound.
func forget[V any](m map[string]V, what, key string) error {
	if _, ok := m[key]; !ok {
		return notFound(what, key)
	}
	delete(m, key)
	return nil
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.Validation, format, args...)
}

func conflict(format string, args ...any) error {
	return hearth.Errorf(hearth.Conflict, format, args...)
}

// limit is what an API may have of a sort of resource, as in the service.
func limit(what string, have, most int) error {
	if have >= most {
		return hearth.Errorf(hearth.TooManyRequests, "An API can have at most %d %s.", most, what)
	}
	return nil
}
