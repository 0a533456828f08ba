package query

import (
	"bytes"
	"encoding/xml"
	"maps"
	"slices"
	"time"
)

// List is a list of an output. Unlike a slice it is there when it is empty,
// too: some SDKs take what is not there for an error.
type List[T any] []T

// MarshalXML implements xml.Marshaler.
func (l List[T]) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, v := range l {
		if err := e.EncodeElement(v, xml.StartElement{Name: xml.Name{Local: "member"}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// Map is a map of an output, written in the order of its keys.
type Map map[string]string

// MarshalXML implements xml.Marshaler.
func (m Map) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	type entry struct {
		Key   string `xml:"key"`
		Value string `xml:"value"`
	}
	entries := struct {
		Entry []entry `xml:"entry"`
	}{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		entries.Entry = append(entries.Entry, entry{k, m[k]})
	}
	return e.EncodeElement(entries, start)
}

// Time is a time of an output, to the second.
type Time time.Time

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05Z"), nil
}

// encode is the answer of an operation.
func encode(namespace, action string, out any, requestID string) ([]byte, error) {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	response := xml.StartElement{
		Name: xml.Name{Local: action + "Response"},
		Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}},
	}
	metadata := xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}}
	id := xml.StartElement{Name: xml.Name{Local: "RequestId"}}
	err := e.EncodeToken(response)
	if err == nil && out != nil {
		err = e.EncodeElement(out, xml.StartElement{Name: xml.Name{Local: action + "Result"}})
	}
	for _, step := range []func() error{
		func() error { return e.EncodeToken(metadata) },
		func() error { return e.EncodeElement(requestID, id) },
		func() error { return e.EncodeToken(metadata.End()) },
		func() error { return e.EncodeToken(response.End()) },
		e.Close,
	} {
		if err == nil {
			err = step()
		}
	}
	return b.Bytes(), err
}
