package namespace

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// socketPair makes a pair of packet sockets: ours, and one to give away.
func socketPair() (*net.UnixConn, *os.File, error) {
	ours, theirs, err := rawPair(syscall.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.FileConn(ours)
	_ = ours.Close() // FileConn has a duplicate
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("namespace: socket pair: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}

func rawPair(kind int) (ours, theirs *os.File, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("namespace: socket pair: %w", err)
	}
	// Ours is for the runtime's poller; theirs blocks.
	if err := syscall.SetNonblock(pair[0], true); err != nil {
		message.CloseAll(pair[:])
		return nil, nil, fmt.Errorf("namespace: socket pair: %w", err)
	}
	return os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket"), nil
}

func send(conn *net.UnixConn, m message.Message, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	_, _, err := conn.WriteMsgUnix(message.Encode(m), rights, nil)
	return err
}

// receive reads one of the messages that the spawner and inits send: all of
// them are short. io.EOF at the end.
func receive(conn *net.UnixConn) (message.Message, []int, error) {
	var packet [512]byte
	var oob [64]byte // two descriptors are the most
	n, oobn, _, _, err := conn.ReadMsgUnix(packet[:], oob[:])
	if err != nil {
		return nil, nil, err
	}
	fds, err := message.ParseFDs(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	if n == 0 {
		return nil, nil, io.EOF
	}
	m, err := message.Decode(packet[:n])
	if err != nil {
		message.CloseAll(fds)
		return nil, nil, err
	}
	return m, fds, nil
}

var errGone = errors.New("namespace: the container is gone")
