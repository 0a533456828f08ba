// Package message is the language of the namespace driver: what the daemon,
// the spawner and the init of each container say to each other over
// SOCK_SEQPACKET socket pairs. One packet is one message: a byte for its type,
// then its fields. Descriptors ride along as SCM_RIGHTS, in the order that
// each type states.
//
// It is written by hand since it is linked into the program that exists once
// in every container: no reflection, nothing that runs at the program's start.
package message

// Hosts is /etc/hosts in every container, of an image too: sandbox.localdomain
// is where the Telemetry API has its subscribers.
const Hosts = "127.0.0.1 localhost sandbox sandbox.localdomain\n::1 localhost6\n"

// Type is the first byte of a message.
type Type byte

// The types. Every request is answered by exactly one Reply, but for those
// that say otherwise.
const (
	// daemon to spawner
	TypeTemplate Type = iota + 1 // build the root that all containers share
	TypeSpawn                    // clone a container's init
	TypeTree                     // clone the mount tree of a path of the host
	TypeOverlay                  // merge directories of the host

	// daemon to init
	TypeSetup // build the container; answered by a Reply with the listener and the link
	TypeAttach
	TypeStart
	TypeTmp  // resize /tmp
	TypeStop // stop, or let go on, every process: where no cgroup can freeze
	TypeRun
	TypeSignal
	TypeSocket // open a socket in the container's network

	// answers
	TypeReply
	TypeExited // init to daemon, unasked: a process that it was told to start has ended
)

// Message is any of the structs below.
type Message interface {
	// Type is the first byte.
	Type() Type
	append(w *writer)
	parse(r *reader)
}

// Encode gives the packet of m.
func Encode(m Message) []byte {
	w := writer{b: make([]byte, 0, 128)}
	w.b = append(w.b, byte(m.Type()))
	m.append(&w)
	return w.b
}

// Decode reads a packet. The message shares no memory with it.
func Decode(packet []byte) (Message, error) {
	if len(packet) == 0 {
		return nil, ErrMalformed
	}
	var m Message
	switch Type(packet[0]) {
	case TypeTemplate:
		m = &Template{}
	case TypeSpawn:
		m = &Spawn{}
	case TypeTree:
		m = &Tree{}
	case TypeOverlay:
		m = &Overlay{}
	case TypeSetup:
		m = &Setup{}
	case TypeAttach:
		m = &Attach{}
	case TypeStart:
		m = &Start{}
	case TypeTmp:
		m = &Tmp{}
	case TypeStop:
		m = &Stop{}
	case TypeRun:
		m = &Run{}
	case TypeSignal:
		m = &Signal{}
	case TypeSocket:
		m = &Socket{}
	case TypeReply:
		m = &Reply{}
	case TypeExited:
		m = &Exited{}
	default:
		return nil, ErrMalformed
	}
	r := reader{b: packet[1:]}
	m.parse(&r)
	if err := r.end(); err != nil {
		return nil, err
	}
	return m, nil
}

// Template tells the spawner, first of all, how containers are to be.
type Template struct {
	Rootless bool
	// Stage is an empty directory of the host on which the spawner mounts
	// what it builds, in its own mount namespace.
	Stage string
	// DNS is the name server in /etc/resolv.conf; "" for none.
	DNS string
	// Parents is how many directories of cgroups there are in which the
	// containers' are.
	Parents uint32
	// Descriptors: those directories; and for each v1 hierarchy the tasks file
	// of the spawner's own group, in the order of Spawn's.
}

// Type implements Message.
func (*Template) Type() Type { return TypeTemplate }
func (m *Template) append(w *writer) {
	w.flag(m.Rootless)
	w.str(m.Stage)
	w.str(m.DNS)
	w.num(uint64(m.Parents))
}
func (m *Template) parse(r *reader) {
	m.Rootless, m.Stage, m.DNS, m.Parents = r.flag(), r.str(), r.str(), uint32(r.num())
}

// Spawn asks for a new container. Its Reply has the descriptor of a pidfd.
type Spawn struct {
	Seq  uint64
	UID  uint32 // first host id of the instance's range
	UIDs uint32 // length of the range; 1 when rootless
	// Unified says that a v2 group is among the descriptors.
	Unified bool
	// Points are the guest paths of mounts that Setup brings, in pairs of
	// path and kind ("d" or "f"), for which mount points are made.
	Points []string
	// Descriptors: the init's end of the socket pair; the v2 group's
	// directory if Unified; the tasks file of the group in every v1
	// hierarchy.
}

// Type implements Message.
func (*Spawn) Type() Type { return TypeSpawn }
func (m *Spawn) append(w *writer) {
	w.num(m.Seq)
	w.num(uint64(m.UID))
	w.num(uint64(m.UIDs))
	w.flag(m.Unified)
	w.strs(m.Points)
}
func (m *Spawn) parse(r *reader) {
	m.Seq, m.UID, m.UIDs = r.num(), uint32(r.num()), uint32(r.num())
	m.Unified, m.Points = r.flag(), r.strs()
}

// Tree asks the spawner for a read-only clone of the mounts at and below a
// path of the host: where the daemon itself has not the right to. Its Reply
// has the descriptor.
type Tree struct {
	Seq  uint64
	Path string
}

// Type implements Message.
func (*Tree) Type() Type         { return TypeTree }
func (m *Tree) append(w *writer) { w.num(m.Seq); w.str(m.Path) }
func (m *Tree) parse(r *reader)  { m.Seq, m.Path = r.num(), r.str() }

// Overlay asks the spawner for a read-only merge of directories of the host,
// the lowest first: where the daemon itself has not the right to. Its Reply has
// the descriptor.
type Overlay struct {
	Seq   uint64
	Paths []string
}

// Type implements Message.
func (*Overlay) Type() Type         { return TypeOverlay }
func (m *Overlay) append(w *writer) { w.num(m.Seq); w.strs(m.Paths) }
func (m *Overlay) parse(r *reader)  { m.Seq, m.Paths = r.num(), r.strs() }

// Process is a process to start. Its descriptors: what takes stdout and
// stderr, then its end of the control socket if Control.
type Process struct {
	Argv, Env []string
	Dir       string
	Output    bool // else its output goes nowhere
	Control   bool
	OpenFiles uint64
	// Tasks limits the tasks of the user inside (RLIMIT_NPROC); 0 where a
	// cgroup does.
	Tasks uint64
}

func (p *Process) append(w *writer) {
	w.strs(p.Argv)
	w.strs(p.Env)
	w.str(p.Dir)
	w.flag(p.Output)
	w.flag(p.Control)
	w.num(p.OpenFiles)
	w.num(p.Tasks)
}

func (p *Process) parse(r *reader) {
	p.Argv, p.Env, p.Dir = r.strs(), r.strs(), r.str()
	p.Output, p.Control = r.flag(), r.flag()
	p.OpenFiles, p.Tasks = r.num(), r.num()
}

// Setup is the first message to a container's init.
type Setup struct {
	Rootless bool
	Stage    string // where the spawner's template is found: "" or Template.Stage
	Hostname string
	TmpBytes uint64
	Guests   []string // where the trees among the descriptors go
	Network  bool
	Address  [4]byte // of the interface
	Bits     uint8
	Gateway  [4]byte
	MTU      uint32
	Boot     bool
	Process  Process // if Boot
	// Descriptors: one tree for each of Guests; those of Process if Boot.
	// The Reply has the listener and, if Network, the link; Reply.Value is 1
	// if the link is a packet socket.
}

// Type implements Message.
func (*Setup) Type() Type { return TypeSetup }
func (m *Setup) append(w *writer) {
	w.flag(m.Rootless)
	w.str(m.Stage)
	w.str(m.Hostname)
	w.num(m.TmpBytes)
	w.strs(m.Guests)
	w.flag(m.Network)
	w.str(string(m.Address[:]))
	w.num(uint64(m.Bits))
	w.str(string(m.Gateway[:]))
	w.num(uint64(m.MTU))
	w.flag(m.Boot)
	m.Process.append(w)
}
func (m *Setup) parse(r *reader) {
	m.Rootless, m.Stage, m.Hostname = r.flag(), r.str(), r.str()
	m.TmpBytes, m.Guests, m.Network = r.num(), r.strs(), r.flag()
	copy(m.Address[:], r.str())
	m.Bits = uint8(r.num())
	copy(m.Gateway[:], r.str())
	m.MTU, m.Boot = uint32(r.num()), r.flag()
	m.Process.parse(r)
}

// Attach shows the code, and puts a disk over /tmp. Descriptors: the task's
// tree if Task, then the disk's mount if Tmp, then one tree for each layer, the
// lowest first, then the mount that is to be the root if Root.
type Attach struct {
	Root   bool
	Task   bool
	Tmp    bool
	Layers uint32
}

// Type implements Message.
func (*Attach) Type() Type { return TypeAttach }
func (m *Attach) append(w *writer) {
	w.flag(m.Root)
	w.flag(m.Task)
	w.flag(m.Tmp)
	w.num(uint64(m.Layers))
}
func (m *Attach) parse(r *reader) {
	m.Root, m.Task, m.Tmp, m.Layers = r.flag(), r.flag(), r.flag(), uint32(r.num())
}

// Start runs the main process. Descriptors: those of Process.
type Start struct{ Process Process }

// Type implements Message.
func (*Start) Type() Type         { return TypeStart }
func (m *Start) append(w *writer) { m.Process.append(w) }
func (m *Start) parse(r *reader)  { m.Process.parse(r) }

// Tmp resizes a /tmp that is memory; 0 bytes means no limit.
type Tmp struct{ Bytes uint64 }

// Type implements Message.
func (*Tmp) Type() Type         { return TypeTmp }
func (m *Tmp) append(w *writer) { w.num(m.Bytes) }
func (m *Tmp) parse(r *reader)  { m.Bytes = r.num() }

// Stop sends SIGSTOP to every process but init, or SIGCONT.
type Stop struct{ Continue bool }

// Type implements Message.
func (*Stop) Type() Type         { return TypeStop }
func (m *Stop) append(w *writer) { w.flag(m.Continue) }
func (m *Stop) parse(r *reader)  { m.Continue = r.flag() }

// Run starts a further process. ID is not 0, and another for each.
// Descriptors: those of Process.
type Run struct {
	ID      uint32
	Process Process
}

// Type implements Message.
func (*Run) Type() Type         { return TypeRun }
func (m *Run) append(w *writer) { w.num(uint64(m.ID)); m.Process.append(w) }
func (m *Run) parse(r *reader)  { m.ID = uint32(r.num()); m.Process.parse(r) }

// Signal sends a signal to the main process's group, if it has not ended.
type Signal struct{ Signal uint32 }

// Type implements Message.
func (*Signal) Type() Type         { return TypeSignal }
func (m *Signal) append(w *writer) { w.num(uint64(m.Signal)) }
func (m *Signal) parse(r *reader)  { m.Signal = uint32(r.num()) }

// Socket asks for a new TCP socket of the container's network, which the Reply
// has as its descriptor.
type Socket struct{}

// Type implements Message.
func (*Socket) Type() Type       { return TypeSocket }
func (m *Socket) append(*writer) {}
func (m *Socket) parse(*reader)  {}

// Reply answers a request: Errno is 0 if it was done; Step says what failed.
type Reply struct {
	Seq   uint64 // of the spawner's requests
	Errno uint32
	Step  string
	Value int64
}

// Type implements Message.
func (*Reply) Type() Type { return TypeReply }
func (m *Reply) append(w *writer) {
	w.num(m.Seq)
	w.num(uint64(m.Errno))
	w.str(m.Step)
	w.num(uint64(m.Value))
}
func (m *Reply) parse(r *reader) {
	m.Seq, m.Errno, m.Step, m.Value = r.num(), uint32(r.num()), r.str(), int64(r.num())
}

// Exited tells how a process has ended, by Signal if that isn't 0: the main one
// if ID is 0, otherwise the one of that Run.
type Exited struct {
	ID     uint32
	Code   uint32
	Signal uint32
}

// Type implements Message.
func (*Exited) Type() Type { return TypeExited }
func (m *Exited) append(w *writer) {
	w.num(uint64(m.ID))
	w.num(uint64(m.Code))
	w.num(uint64(m.Signal))
}
func (m *Exited) parse(r *reader) {
	m.ID, m.Code, m.Signal = uint32(r.num()), uint32(r.num()), uint32(r.num())
}
