package registry

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// The records, as they are on disk. A change that older programs could not
// read, or would misread, needs a new schema version of the store. Aliases
// and layers will have buckets of their own.
const (
	functionsBucket = "functions" // account/name         → functionRecord
	versionsBucket  = "versions"  // account/name/number  → versionRecord
	metaBucket      = "registry"  // generation           → 8 bytes, big-endian
	generationKey   = "generation"
)

func (k key) record() string { return string(k.account) + "/" + k.name }

// versionKey has the number in ten digits, so that keys are in its order.
func (k key) versionKey(number int) string { return fmt.Sprintf("%s/%010d", k.record(), number) }

// functionRecord is a function without its versions.
type functionRecord struct {
	Newest configuration     `json:"newest"`
	Active *configuration    `json:"active,omitempty"` // where it is not newest
	None   bool              `json:"none,omitempty"`   // it never was active
	Next   int               `json:"next"`
	Tags   map[string]string `json:"tags,omitempty"`
}

// versionRecord is a published version.
type versionRecord struct {
	Function    configuration `json:"function"`
	Description string        `json:"description,omitempty"` // $LATEST's
}

// configuration is a hearth.Function on disk. The names are fixed here, so
// that the program's own may change.
type configuration struct {
	Account          string              `json:"account"`
	Region           string              `json:"region"`
	Name             string              `json:"name"`
	Version          string              `json:"version"`
	Generation       uint64              `json:"generation"`
	Runtime          string              `json:"runtime,omitempty"`
	Handler          string              `json:"handler,omitempty"`
	Role             string              `json:"role,omitempty"`
	Description      string              `json:"description,omitempty"`
	MemoryMiB        int                 `json:"memoryMiB"`
	TimeoutSeconds   int                 `json:"timeoutSeconds"`
	TmpMiB           int                 `json:"tmpMiB"`
	Architectures    []string            `json:"architectures,omitempty"`
	Env              []byte              `json:"env,omitempty"` // sealed JSON
	PackageType      string              `json:"packageType,omitempty"`
	Package          packageRecord       `json:"package"`
	Layers           []layerRecord       `json:"layers,omitempty"`
	Logging          loggingRecord       `json:"logging,omitzero"`
	TracingMode      string              `json:"tracingMode,omitempty"`
	DeadLetterTarget string              `json:"deadLetterTarget,omitempty"`
	KMSKeyARN        string              `json:"kmsKeyArn,omitempty"`
	SnapStart        string              `json:"snapStart,omitempty"`
	VPC              vpcRecord           `json:"vpc,omitzero"`
	FileSystems      []fileSystemRecord  `json:"fileSystems,omitempty"`
	State            hearth.State        `json:"state"`
	StateReason      string              `json:"stateReason,omitempty"`
	StateReasonCode  string              `json:"stateReasonCode,omitempty"`
	UpdateStatus     hearth.UpdateStatus `json:"updateStatus,omitempty"`
	UpdateReason     string              `json:"updateReason,omitempty"`
	UpdateReasonCode string              `json:"updateReasonCode,omitempty"`
	LastModified     time.Time           `json:"lastModified"`
	RevisionID       string              `json:"revisionId"`
	RuntimeVersion   string              `json:"runtimeVersionArn,omitempty"`
	MasterARN        string              `json:"masterArn,omitempty"`
	PublishedAt      time.Time           `json:"publishedAt,omitzero"`
}

type packageRecord struct {
	SHA256   string `json:"sha256"`
	Size     int64  `json:"size"`
	Unpacked int64  `json:"unpacked"`
}

type layerRecord struct {
	ARN     string        `json:"arn"`
	Package packageRecord `json:"package"`
}

type loggingRecord struct {
	Format           string `json:"format,omitempty"`
	ApplicationLevel string `json:"applicationLevel,omitempty"`
	SystemLevel      string `json:"systemLevel,omitempty"`
	Group            string `json:"group,omitempty"`
}

type vpcRecord struct {
	SubnetIDs        []string `json:"subnetIds,omitempty"`
	SecurityGroupIDs []string `json:"securityGroupIds,omitempty"`
	IPv6Allowed      bool     `json:"ipv6Allowed,omitempty"`
}

// IsZero serves omitzero.
func (v vpcRecord) IsZero() bool {
	return len(v.SubnetIDs) == 0 && len(v.SecurityGroupIDs) == 0 && !v.IPv6Allowed
}

type fileSystemRecord struct {
	ARN            string `json:"arn"`
	LocalMountPath string `json:"localMountPath"`
}

// sealedTo is what an environment's ciphertext is bound to, so that one
// function's cannot be passed off as another's.
func sealedTo(account hearth.Account, name string) []byte {
	return []byte("environment of " + string(account) + "/" + name)
}

func encode(f *hearth.Function, secrets Sealer) (c configuration, err error) {
	c = configuration{
		Account: string(f.Account), Region: f.Region, Name: f.Name, Version: f.Version, Generation: f.Generation,
		Runtime: f.Runtime, Handler: f.Handler, Role: f.Role, Description: f.Description,
		MemoryMiB: f.MemoryMiB, TimeoutSeconds: int(f.Timeout / time.Second), TmpMiB: f.TmpMiB,
		Architectures: f.Architectures, PackageType: f.PackageType, Package: packageRecord(f.Package),
		Logging: loggingRecord(f.Logging), TracingMode: f.TracingMode, DeadLetterTarget: f.DeadLetterTarget,
		KMSKeyARN: f.KMSKeyARN, SnapStart: f.SnapStart, VPC: vpcRecord(f.VPC),
		State: f.State, StateReason: f.StateReason, StateReasonCode: f.StateReasonCode,
		UpdateStatus: f.UpdateStatus, UpdateReason: f.UpdateReason, UpdateReasonCode: f.UpdateReasonCode,
		LastModified: f.LastModified, RevisionID: f.RevisionID, RuntimeVersion: f.RuntimeVersionARN,
		MasterARN: f.MasterARN, PublishedAt: f.PublishedAt,
	}
	for _, l := range f.Layers {
		c.Layers = append(c.Layers, layerRecord{l.ARN, packageRecord(l.Package)})
	}
	for _, fs := range f.FileSystems {
		c.FileSystems = append(c.FileSystems, fileSystemRecord(fs))
	}
	if len(f.Env) > 0 {
		plain, err := json.Marshal(f.Env)
		if err != nil {
			return c, err
		}
		if c.Env, err = secrets.Seal(plain, sealedTo(f.Account, f.Name)); err != nil {
			return c, err
		}
	}
	return c, nil
}

func decode(c *configuration, secrets Sealer) (*hearth.Function, error) {
	f := &hearth.Function{
		Account: hearth.Account(c.Account), Region: c.Region, Name: c.Name, Version: c.Version, Generation: c.Generation,
		Runtime: c.Runtime, Handler: c.Handler, Role: c.Role, Description: c.Description,
		MemoryMiB: c.MemoryMiB, Timeout: time.Duration(c.TimeoutSeconds) * time.Second, TmpMiB: c.TmpMiB,
		Architectures: c.Architectures, PackageType: c.PackageType, Package: hearth.Package(c.Package),
		Logging: hearth.Logging(c.Logging), TracingMode: c.TracingMode, DeadLetterTarget: c.DeadLetterTarget,
		KMSKeyARN: c.KMSKeyARN, SnapStart: c.SnapStart, VPC: hearth.VPC(c.VPC),
		State: c.State, StateReason: c.StateReason, StateReasonCode: c.StateReasonCode,
		UpdateStatus: c.UpdateStatus, UpdateReason: c.UpdateReason, UpdateReasonCode: c.UpdateReasonCode,
		LastModified: c.LastModified, RevisionID: c.RevisionID, RuntimeVersionARN: c.RuntimeVersion,
		MasterARN: c.MasterARN, PublishedAt: c.PublishedAt,
	}
	for _, l := range c.Layers {
		f.Layers = append(f.Layers, hearth.Layer{ARN: l.ARN, Package: hearth.Package(l.Package)})
	}
	for _, fs := range c.FileSystems {
		f.FileSystems = append(f.FileSystems, hearth.FileSystem(fs))
	}
	if len(c.Env) > 0 {
		plain, err := secrets.Open(c.Env, sealedTo(f.Account, f.Name))
		if err != nil {
			return nil, fmt.Errorf("environment: %w", err)
		}
		if err := json.Unmarshal(plain, &f.Env); err != nil {
			return nil, errors.New("environment: not JSON") // the cause could quote it
		}
	}
	return f, nil
}

// write puts what differs between old and new into the store, durably.
func (r *Registry) write(ctx context.Context, k key, old, new *view) error {
	puts, deletes := map[string][]byte{}, []string{}
	kept := map[int]*hearth.Function{}
	if old != nil {
		for i := range old.versions {
			kept[old.versions[i].number] = old.versions[i].f
		}
	}
	if new != nil {
		for i := range new.versions {
			v := &new.versions[i]
			same := kept[v.number] == v.f
			delete(kept, v.number)
			if same {
				continue
			}
			c, err := encode(v.f, r.cfg.Secrets)
			if err != nil {
				return err
			}
			if puts[k.versionKey(v.number)], err = json.Marshal(versionRecord{c, v.description}); err != nil {
				return err
			}
		}
	}
	for n := range kept {
		deletes = append(deletes, k.versionKey(n))
	}
	var function []byte
	if new != nil {
		var err error
		if function, err = new.encode(r.cfg.Secrets); err != nil {
			return err
		}
	}
	return r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, vk := range slices.Sorted(maps.Keys(puts)) {
			if err := tx.Put(versionsBucket, vk, puts[vk]); err != nil {
				return err
			}
		}
		for _, vk := range deletes {
			if err := tx.Delete(versionsBucket, vk); err != nil {
				return err
			}
		}
		if function == nil {
			return tx.Delete(functionsBucket, k.record())
		}
		return tx.Put(functionsBucket, k.record(), function)
	})
}

func (v *view) encode(secrets Sealer) ([]byte, error) {
	c, err := encode(v.newest, secrets)
	if err != nil {
		return nil, err
	}
	rec := functionRecord{Newest: c, Next: v.next, Tags: v.tags, None: v.active == nil}
	if v.active != nil && v.active != v.newest {
		c, err := encode(v.active, secrets)
		if err != nil {
			return nil, err
		}
		rec.Active = &c
	}
	return json.Marshal(rec)
}

func decodeView(data []byte, secrets Sealer) (*view, error) {
	var rec functionRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, err
	}
	newest, err := decode(&rec.Newest, secrets)
	if err != nil {
		return nil, err
	}
	v := &view{newest: newest, active: newest, next: rec.Next, tags: rec.Tags}
	switch {
	case rec.None:
		v.active = nil
	case rec.Active != nil:
		if v.active, err = decode(rec.Active, secrets); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func decodeVersion(data []byte, secrets Sealer) (version, error) {
	var rec versionRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return version{}, err
	}
	f, err := decode(&rec.Function, secrets)
	if err != nil {
		return version{}, err
	}
	n := number(f.Version)
	if n == 0 {
		return version{}, fmt.Errorf("the version %q", f.Version)
	}
	return version{n, f, rec.Description}, nil
}

// load fills the memory from the store.
func (r *Registry) load(ctx context.Context) error {
	views := map[key]*view{}
	err := r.cfg.Store.View(ctx, func(tx store.Reader) error {
		for rec, err := range tx.Scan(functionsBucket, "", "") {
			if err != nil {
				return err
			}
			v, err := decodeView(rec.Value, r.cfg.Secrets)
			if err != nil {
				return fmt.Errorf("the record of function %s is damaged: %w", rec.Key, err)
			}
			if k := (key{v.newest.Account, v.newest.Name}); k.record() == rec.Key {
				views[k] = v
			} else {
				return fmt.Errorf("the record of function %s is that of %s", rec.Key, k.record())
			}
		}
		for rec, err := range tx.Scan(versionsBucket, "", "") {
			if err != nil {
				return err
			}
			ver, err := decodeVersion(rec.Value, r.cfg.Secrets)
			if err != nil {
				return fmt.Errorf("the record of version %s is damaged: %w", rec.Key, err)
			}
			k := key{ver.f.Account, ver.f.Name}
			if views[k] == nil || k.versionKey(ver.number) != rec.Key {
				return fmt.Errorf("the version %s belongs to no function", rec.Key)
			}
			views[k].versions = append(views[k].versions, ver) // in order
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, v := range views {
		r.packages.refer(nil, v)
		a := r.account(k.account)
		a.names = append(a.names, k.name)
		a.code += v.codeBytes()
		r.setView(k, v)
	}
	for _, a := range r.accounts {
		slices.Sort(a.names)
	}
	return nil
}

// generations gives out Generation numbers. The store holds a number that
// none given out has reached, so that a crash skips some and repeats none.
type generations struct {
	store store.Store

	mu          sync.Mutex
	next, limit uint64
}

// generationBlock is how many numbers one commit reserves.
const generationBlock = 1000

func (g *generations) take(ctx context.Context) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == g.limit {
		var from uint64
		if err := g.store.Update(ctx, func(tx store.Tx) error {
			b, ok, err := tx.Get(metaBucket, generationKey)
			switch {
			case err != nil:
				return err
			case !ok:
				from = 1
			case len(b) != 8:
				return fmt.Errorf("the record of generations has %d bytes", len(b))
			default:
				from = binary.BigEndian.Uint64(b)
			}
			return tx.Put(metaBucket, generationKey, binary.BigEndian.AppendUint64(nil, from+generationBlock))
		}); err != nil {
			return 0, err
		}
		g.next, g.limit = from, from+generationBlock
	}
	g.next++
	return g.next - 1, nil
}

// validName tells whether a function may have the name: what the service's
// pattern allows, on which the records' keys rely.
func validName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}
