package node

import (
	"bytes"
	"io"
	"testing"
)

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendFrame(nil, frameTaken, nil))
	f.Add(appendFrame(appendFrame(nil, frameData, []byte("abc")), frameEnd, []byte("{}")))
	f.Add([]byte{frameData, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		var again []byte
		for {
			kind, body, err := readFrame(r, nil)
			if err != nil {
				break
			}
			again = appendFrame(again, kind, body)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%q was read as %q", b, again)
		}
	})
}

func FuzzReadHead(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendHead(nil, []byte("{}")))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, err := readHead(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, appendHead(nil, head)) {
			t.Fatalf("%q was read as %q", b, head)
		}
	})
}

func TestALengthIsNotBelieved(t *testing.T) {
	n := testing.AllocsPerRun(10, func() {
		if _, err := readBody(io.LimitReader(bytes.NewReader(make([]byte, 10)), 10), maxFrame, nil); err == nil {
			t.Error("a body that breaks off was read")
		}
	})
	if n > 10 {
		t.Errorf("%v allocations", n)
	}
}
