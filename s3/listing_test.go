package s3

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// document is a page of n objects as AWS writes it.
func document(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>set</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b==</NextContinuationToken>`)
	for i := range n {
		fmt.Fprintf(&b, "<Contents><Key>in/%d%%26</Key><LastModified>2026-11-29T08:00:%02d.000Z</LastModified><ETag>&quot;%x&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>%d</Size><Owner><ID>1</ID><DisplayName>me</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Contents>", i, i%60, i, i*1000)
	}
	b.WriteString("<CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes></ListBucketResult>")
	return b.Bytes()
}

func TestAListingIsReadAsServersWriteIt(t *testing.T) {
	if _, ok := scanListing(document(2)); !ok {
		t.Error("what AWS writes is not understood")
	}
	objects, next, err := parseListing(document(2))
	if err != nil {
		t.Fatal(err)
	}
	want := []Listed{
		{Key: "in/0&", ETag: "0", Modified: time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)},
		{Key: "in/1&", ETag: "1", Size: 1000, Modified: time.Date(2026, 11, 29, 8, 0, 1, 0, time.UTC)},
	}
	if !reflect.DeepEqual(objects, want) || next != "a&b==" {
		t.Errorf("%+v, next %q", objects, next)
	}
}

// FuzzListing compares with encoding/xml: what is understood here says the same
// there.
func FuzzListing(f *testing.F) {
	f.Add(document(2))
	for _, s := range []string{
		`<ListBucketResult><Contents><Key>a</Key><Key>b</Key><Size> 5 </Size></Contents></ListBucketResult>`,
		`<ListBucketResult><Contents><Owner><Key>x</Key></Owner><Key>&#38;&#x41;</Key></Contents><Contents></Contents></ListBucketResult>`,
		`<ListBucketResult><A><B></A></B></ListBucketResult>`, `<ListBucketResult><IsTruncated>1</IsTruncated></ListBucketResult> `,
		`<ListBucketResult><Contents><Key>a]]></Key></Contents></ListBucketResult>`, `<ListBucketResult><Contents><Key><b>c</b></Key></Contents></ListBucketResult>`,
		`<ListBucketResult><!-- --><Contents><Key><![CDATA[a]]></Key></Contents></ListBucketResult>`, `<ListBucketResult><Contents><Key>` + "\xff" + `</Key></Contents>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := scanListing(data)
		if !ok {
			return
		}
		var want listing
		if err := xml.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q is understood; encoding/xml: %v", data, err)
		}
		want.XMLName = xml.Name{}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %+v, encoding/xml has %+v", data, got, want)
		}
	})
}

func BenchmarkListing(b *testing.B) {
	page := document(MaxList)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := parseListing(page); err != nil {
			b.Fatal(err)
		}
	}
}
