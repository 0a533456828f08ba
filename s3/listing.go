package s3

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// listing is the document of a ListObjectsV2.
type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	EncodingType          string
	IsTruncated           bool
	NextContinuationToken string
	Contents              []listedXML
}

type listedXML struct {
	Key, ETag, LastModified string
	Size                    int64
}

// parseListing reads the document of a ListObjectsV2.
func parseListing(document []byte) (objects []Listed, next string, err error) {
	page, ok := scanListing(document)
	if !ok {
		page = listing{}
		if err := xml.Unmarshal(document, &page); err != nil {
			return nil, "", fmt.Errorf("the S3 server's listing can't be read: %w", err)
		}
	}
	objects = slices.Grow(objects, len(page.Contents))
	for _, o := range page.Contents {
		key := o.Key
		if page.EncodingType == "url" {
			if key, err = url.QueryUnescape(o.Key); err != nil {
				return nil, "", fmt.Errorf("the S3 server's listing has the key %q: %w", o.Key, err)
			}
		}
		modified, err := time.Parse(time.RFC3339, o.LastModified)
		if err != nil {
			return nil, "", fmt.Errorf("the S3 server's listing says that %q changed at %q: %w", key, o.LastModified, err)
		}
		objects = append(objects, Listed{Key: key, ETag: strings.Trim(o.ETag, `"`), Size: o.Size, Modified: modified})
	}
	if page.IsTruncated && page.NextContinuationToken == "" {
		return nil, "", errors.New("the S3 server's listing says that there is more, and not from where on")
	}
	if !page.IsTruncated {
		page.NextContinuationToken = ""
	}
	return objects, page.NextContinuationToken, nil
}

// What a listing may begin with.
var (
	declaration = []byte(`<?xml version="1.0" encoding="UTF-8"?>`)
	roots       = [][]byte{[]byte(`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`), []byte(`<ListBucketResult>`)}
)

// scanListing reads a listing as servers write them: elements without attributes
// that have either text or elements, in ASCII. It is here because encoding/xml
// takes 17 µs for an object, which is most of what it costs to list a bucket of
// millions. What it does not know, and all that is wrong, is left to that.
func scanListing(document []byte) (page listing, ok bool) {
	s := scanner{bytes.TrimPrefix(document, declaration)}
	s.space()
	for _, root := range roots {
		if after, found := bytes.CutPrefix(s.rest, root); found {
			s.rest, ok = after, true
		}
	}
	if !ok {
		return page, false
	}
	var within [][]byte // the elements that are open, below the root
	for {
		e, name, text := s.next()
		switch e {
		case begin:
			switch {
			case len(within) == 0 && string(name) == "Contents":
				page.Contents = append(page.Contents, listedXML{})
			case page.field(within, name) != nil:
				return page, false
			}
			within = append(within, name)
		case end:
			if len(within) == 0 {
				return page, string(name) == "ListBucketResult"
			}
			if !bytes.Equal(within[len(within)-1], name) {
				return page, false
			}
			within = within[:len(within)-1]
		case leaf:
			if len(within) == 0 && string(name) == "Contents" {
				return page, false
			}
			if !set(page.field(within, name), text) {
				return page, false
			}
		default:
			return page, false
		}
	}
}

// field is where the text of a leaf goes; nil if nobody asks for it.
func (l *listing) field(within [][]byte, name []byte) any {
	switch {
	case len(within) == 0:
		switch string(name) {
		case "EncodingType":
			return &l.EncodingType
		case "NextContinuationToken":
			return &l.NextContinuationToken
		case "IsTruncated":
			return &l.IsTruncated
		}
	case len(within) == 1 && string(within[0]) == "Contents":
		one := &l.Contents[len(l.Contents)-1]
		switch string(name) {
		case "Key":
			return &one.Key
		case "ETag":
			return &one.ETag
		case "LastModified":
			return &one.LastModified
		case "Size":
			return &one.Size
		}
	}
	return nil
}

// set writes a text into a field, and tells whether it understands it.
func set(field any, text []byte) bool {
	plain, ok := unescape(text)
	if !ok {
		return false
	}
	switch f := field.(type) {
	case *string:
		*f = string(plain)
	case *bool:
		*f = string(plain) == "true"
		return *f || string(plain) == "false"
	case *int64:
		if len(plain) == 0 || len(plain) > 18 {
			return false
		}
		*f = 0
		for _, c := range plain {
			if c < '0' || c > '9' {
				return false
			}
			*f = 10**f + int64(c-'0')
		}
	}
	return true
}

var entities = map[string]byte{"amp": '&', "lt": '<', "gt": '>', "quot": '"', "apos": '\'', "#34": '"', "#39": '\''}

// unescape is what an element's text says; not ok is that it is not of the
// characters that are looked for here. Nothing is copied if nothing is escaped.
func unescape(text []byte) (plain []byte, ok bool) {
	escaped := false
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '>' {
			return nil, false
		}
		escaped = escaped || c == '&'
	}
	if !escaped {
		return text, true
	}
	for len(text) > 0 {
		before, after, found := bytes.Cut(text, []byte("&"))
		plain = append(plain, before...)
		if !found {
			break
		}
		name, rest, found := bytes.Cut(after, []byte(";"))
		c, known := entities[string(name)]
		if !found || !known {
			return nil, false
		}
		plain, text = append(plain, c), rest
	}
	return plain, true
}

// event is what a scanner finds.
type event int

const (
	bad event = iota
	begin
	leaf // an element without elements
	end
)

// scanner reads elements without attributes.
type scanner struct{ rest []byte }

func (s *scanner) space() { s.rest = bytes.TrimLeft(s.rest, " \t\n") }

// tag reads a tag that begins with open, and returns the element's name.
func (s *scanner) tag(open string) (name []byte, ok bool) {
	after, ok := bytes.CutPrefix(s.rest, []byte(open))
	if !ok {
		return nil, false
	}
	n := 0
	for n < len(after) && ('a' <= after[n]|0x20 && after[n]|0x20 <= 'z') {
		n++
	}
	if n == 0 || n == len(after) || after[n] != '>' {
		return nil, false
	}
	s.rest = after[n+1:]
	return after[:n], true
}

// next reads up to the next element's beginning or end, a leaf whole.
func (s *scanner) next() (e event, name, text []byte) {
	s.space()
	if name, ok := s.tag("</"); ok {
		return end, name, nil
	}
	name, ok := s.tag("<")
	if !ok {
		return bad, nil, nil
	}
	n := bytes.IndexByte(s.rest, '<')
	if n < 0 {
		return bad, nil, nil
	}
	text, s.rest = s.rest[:n], s.rest[n:]
	if bytes.HasPrefix(s.rest, []byte("</")) {
		if closed, ok := s.tag("</"); !ok || !bytes.Equal(closed, name) {
			return bad, nil, nil
		}
		return leaf, name, text
	}
	if len(bytes.TrimLeft(text, " \t\n")) > 0 {
		return bad, nil, nil
	}
	return begin, name, nil
}
