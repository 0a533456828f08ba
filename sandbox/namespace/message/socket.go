package message

import (
	"syscall"
	"unsafe"
)

// MaxFDs is how many descriptors can ride on one message.
const MaxFDs = 64

// Send writes a packet with descriptors, waiting while the socket is full.
func Send(socket int, m Message, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	packet := Encode(m)
	for {
		err := syscall.Sendmsg(socket, packet, rights, nil, syscall.MSG_NOSIGNAL)
		if err != syscall.EINTR {
			return err
		}
	}
}

// Receive waits for the next message on a blocking socket. The descriptors
// are the caller's, and closed on exec. At the end of the stream the message
// is nil.
func Receive(socket int) (Message, []int, error) {
	// The first look learns the length, so that a program that waits for
	// most of its life holds no buffer for the largest message there is.
	n, err := peek(socket)
	if err != nil || n == 0 {
		return nil, nil, err
	}
	packet := make([]byte, n)
	oob := make([]byte, syscall.CmsgSpace(4*MaxFDs))
	var oobn int
	for {
		n, oobn, _, _, err = syscall.Recvmsg(socket, packet, oob, syscall.MSG_CMSG_CLOEXEC)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil || n == 0 {
		return nil, nil, err
	}
	fds, err := ParseFDs(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	m, err := Decode(packet[:n])
	if err != nil {
		CloseAll(fds)
		return nil, nil, err
	}
	return m, fds, nil
}

// ParseFDs takes the descriptors out of control messages.
func ParseFDs(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		if messages[i].Header.Type != syscall.SCM_RIGHTS {
			continue
		}
		got, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			CloseAll(fds)
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd) // nothing was written to them
	}
}

// peek waits for a packet and tells its length, leaving it there.
func peek(socket int) (int, error) {
	var probe [1]byte
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVFROM, uintptr(socket),
			uintptr(unsafe.Pointer(&probe[0])), 1, syscall.MSG_PEEK|syscall.MSG_TRUNC, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
