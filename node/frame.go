package node

import (
	"encoding/binary"
	"fmt"
	"io"
)

// An invocation's request is one head, and then the payload as it is. Its
// answer is a row of frames, each
//
//	kind    1 byte
//	length  4 bytes, big-endian, at most maxFrame
//	body
//
// in the order of the kinds below; the first byte of the answer may be a while
// in coming, and the frame taken comes before the function sees the event.
const (
	frameTaken  = 't' // a container is about to be given the event; no body
	frameStream = 's' // the answer is streamed; JSON of streamHead
	frameData   = 'd' // a piece of it
	frameResult = 'r' // the answer, if it was not streamed
	frameEnd    = 'e' // JSON of ending; nothing follows
)

// maxFrame bounds a body, so that a damaged length can't ask for memory. The
// longest is a buffered answer.
const maxFrame = 8 << 20

const frameHead = 5

// appendFrame appends a frame to b.
func appendFrame(b []byte, kind byte, body []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// readFrame reads a frame. Its body is of buf if that is large enough.
func readFrame(r io.Reader, buf []byte) (kind byte, body []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("node: a frame of %d bytes", n)
	}
	switch head[0] {
	case frameTaken, frameStream, frameData, frameResult, frameEnd:
	default:
		return 0, nil, fmt.Errorf("node: a frame of the unknown kind %q", head[0])
	}
	if body, err = readBody(r, int(n), buf); err != nil {
		return 0, nil, err
	}
	return head[0], body, nil
}

// readBody reads n bytes. Memory is taken as they come, not as they are
// announced.
func readBody(r io.Reader, n int, buf []byte) ([]byte, error) {
	const step = 64 << 10
	body := buf[:0]
	for len(body) < n {
		more := min(n-len(body), max(step, len(body)))
		if cap(body)-len(body) < more {
			body = append(make([]byte, 0, len(body)+more), body...)
		}
		got, err := io.ReadFull(r, body[len(body):len(body)+more])
		body = body[:len(body)+got]
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}

// maxHead bounds the head of a request: a function with its environment, its
// layers and its policy.
const maxHead = 1 << 20

// readHead reads what precedes a payload: its length and JSON.
func readHead(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxHead {
		return nil, fmt.Errorf("node: a head of %d bytes", n)
	}
	return readBody(r, int(n), nil)
}

func appendHead(b, head []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)))
	return append(b, head...)
}
