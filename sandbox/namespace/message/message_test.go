package message

import (
	"reflect"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func strings(t *rapid.T, label string) []string {
	list := rapid.SliceOfN(rapid.String(), 0, 5).Draw(t, label)
	if len(list) == 0 {
		return nil
	}
	return list
}

func process(t *rapid.T) Process {
	return Process{
		Argv: strings(t, "argv"), Env: strings(t, "env"), Dir: rapid.String().Draw(t, "dir"),
		Output: rapid.Bool().Draw(t, "output"), Control: rapid.Bool().Draw(t, "control"),
		OpenFiles: rapid.Uint64().Draw(t, "files"), Tasks: rapid.Uint64().Draw(t, "tasks"),
	}
}

// anyMessage draws a message of any type.
func anyMessage(t *rapid.T) Message {
	text := func(label string) string { return rapid.String().Draw(t, label) }
	number := func(label string) uint64 { return rapid.Uint64().Draw(t, label) }
	small := func(label string) uint32 { return rapid.Uint32().Draw(t, label) }
	yes := func(label string) bool { return rapid.Bool().Draw(t, label) }
	address := func(label string) [4]byte {
		return [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, label))
	}
	switch rapid.IntRange(int(TypeTemplate), int(TypeExited)).Draw(t, "type") {
	case int(TypeTemplate):
		return &Template{Rootless: yes("rootless"), Stage: text("stage"), DNS: text("dns"), Parents: small("parents")}
	case int(TypeSpawn):
		return &Spawn{Seq: number("seq"), UID: small("uid"), UIDs: small("uids"), Unified: yes("unified"), Points: strings(t, "points")}
	case int(TypeTree):
		return &Tree{Seq: number("seq"), Path: text("path")}
	case int(TypeOverlay):
		return &Overlay{Seq: number("seq"), Paths: strings(t, "paths")}
	case int(TypeSetup):
		return &Setup{
			Rootless: yes("rootless"), Stage: text("stage"), Hostname: text("host"), TmpBytes: number("tmp"),
			Guests: strings(t, "guests"), Network: yes("network"), Address: address("address"),
			Bits: rapid.Byte().Draw(t, "bits"), Gateway: address("gateway"), MTU: small("mtu"), Boot: yes("boot"), Process: process(t),
		}
	case int(TypeAttach):
		return &Attach{Root: yes("root"), Task: yes("task"), Tmp: yes("tmp"), Layers: small("layers")}
	case int(TypeStart):
		return &Start{Process: process(t)}
	case int(TypeTmp):
		return &Tmp{Bytes: number("bytes")}
	case int(TypeStop):
		return &Stop{Continue: yes("continue")}
	case int(TypeRun):
		return &Run{ID: small("id"), Process: process(t)}
	case int(TypeSignal):
		return &Signal{Signal: small("signal")}
	case int(TypeSocket):
		return &Socket{}
	case int(TypeReply):
		return &Reply{Seq: number("seq"), Errno: small("errno"), Step: text("step"), Value: rapid.Int64().Draw(t, "value")}
	default:
		return &Exited{ID: small("id"), Code: small("code"), Signal: small("signal")}
	}
}

func TestEveryMessageArrivesAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := anyMessage(t)
		got, err := Decode(Encode(sent))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(sent, got) {
			t.Fatalf("%+v arrived as %+v", sent, got)
		}
	})
}

func TestTruncatedMessagesAreRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		packet := Encode(anyMessage(t))
		cut := rapid.IntRange(0, len(packet)-1).Draw(t, "cut")
		if m, err := Decode(packet[:cut]); err == nil {
			t.Fatalf("%d of %d bytes were taken for %+v", cut, len(packet), m)
		}
	})
}

func TestDescriptorsRideAlong(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(pair[:])
	if err := Send(pair[0], &Attach{Layers: 1}, pair[0], pair[1]); err != nil {
		t.Fatal(err)
	}
	m, fds, err := Receive(pair[1])
	if err != nil || len(fds) != 2 || !reflect.DeepEqual(m, &Attach{Layers: 1}) {
		t.Errorf("received %+v with %v, %v", m, fds, err)
	}
	CloseAll(fds)
	if err := syscall.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	pair[0] = -1
	if m, _, err := Receive(pair[1]); m != nil || err != nil {
		t.Errorf("at the end of the stream: %+v, %v", m, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(Encode(&Spawn{Seq: 1, UID: 2, Points: []string{"/a", "d"}}))
	f.Add(Encode(&Setup{Hostname: "sandbox", Boot: true, Process: Process{Argv: []string{"/x"}}}))
	f.Add([]byte{byte(TypeStart), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := Decode(packet)
		if err != nil {
			return
		}
		again, err := Decode(Encode(m))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}
