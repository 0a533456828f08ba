package storetest

import "errors"

// Sealer seals by turning bits over, and opens only what belongs where it is: for
// tests of what keeps secrets, which look for them in what is stored.
type Sealer struct{}

// Seal seals plain for what associated names, in at most 255 bytes.
func (Sealer) Seal(plain, associated []byte) ([]byte, error) {
	out := append([]byte{byte(len(associated))}, associated...)
	return append(out, turned(plain)...), nil
}

// Open opens what Seal has sealed for the same.
func (Sealer) Open(sealed, associated []byte) ([]byte, error) {
	n := int(sealed[0])
	if len(sealed) <= n || string(sealed[1:1+n]) != string(associated) {
		return nil, errors.New("sealed for another")
	}
	return turned(sealed[1+n:]), nil
}

func turned(text []byte) (out []byte) {
	for _, b := range text {
		out = append(out, ^b)
	}
	return out
}
