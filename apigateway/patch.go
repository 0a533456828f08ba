package apigateway

import (
	"encoding/json"
	"maps"
)

// copyOf is a deep copy of a resource, by the JSON that it has anyway.
func copyOf[T any](v *T) (*T, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	c := new(T)
	return c, json.Unmarshal(b, c)
}

// Patch sets the members of a resource that a body has, and leaves the others.
// Lists and structures are replaced; of the maps in merged the entries that the
// body has are set, and those that it has as "" or {} are removed. Members of
// the body that T does not have are ignored, as the service does.
func Patch[T any](v *T, body []byte, merged ...string) error {
	if len(body) == 0 {
		return nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return invalid("The request's body can't be read: %s", err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for name, value := range members {
		if string(value) == "null" {
			delete(members, name)
		}
	}
	for _, name := range merged {
		if members[name] == nil {
			continue
		}
		var have, more map[string]json.RawMessage
		if all[name] != nil {
			if err := json.Unmarshal(all[name], &have); err != nil {
				return err
			}
		}
		if err := json.Unmarshal(members[name], &more); err != nil {
			return invalid("%s can't be read: %s", name, err)
		}
		if have == nil {
			have = map[string]json.RawMessage{}
		}
		maps.Copy(have, more)
		maps.DeleteFunc(have, func(_ string, v json.RawMessage) bool { return string(v) == `""` || string(v) == "{}" })
		if members[name], err = json.Marshal(have); err != nil {
			return err
		}
	}
	maps.Copy(all, members)
	if b, err = json.Marshal(all); err != nil {
		return err
	}
	n := new(T)
	if err := json.Unmarshal(b, n); err != nil {
		return invalid("The request's body can't be read: %s", err)
	}
	*v = *n
	return nil
}
