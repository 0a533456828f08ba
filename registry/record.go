package registry

import (
	"cmp"
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
// read, or would misread, needs a new schema version of the store.
const (
	functionsBucket = "functions" // account/name            → functionRecord
	versionsBucket  = "versions"  // account/name/number     → versionRecord
	aliasesBucket   = "aliases"   // account/name/alias      → aliasRecord
	settingsBucket  = "settings"  // account/name/qualifier  → Settings
	metaBucket      = "registry"  // generation              → 8 bytes, big-endian
	generationKey   = "generation"
)

func (k key) record() string { return string(k.account) + "/" + k.name }

// versionKey has the number in ten digits, so that keys are in its order.
func (k key) versionKey(number int) string { return fmt.Sprintf("%s/%010d", k.record(), number) }

// functionRecord is a function without its versions.
type functionRecord struct {
	Newest configuration  `json:"newest"`
	Active *configuration `json:"active,omitempty"` // where it is not newest
	None   bool           `json:"none,omitempty"`   // it never was active
	Next   int            `json:"next"`
	// Published is $LATEST.PUBLISHED, and Running what runs of it where that
	// is another one.
	Published *versionRecord    `json:"published,omitempty"`
	Running   *configuration    `json:"running,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
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
	Env              []byte              `json:"env,omitempty"`    // sealed JSON
	EnvKey           string              `json:"envKey,omitempty"` // the ARN of the key that sealed it, if not the server's own
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
	Image            *imageRecord        `json:"image,omitempty"`
	TenantIsolation  string              `json:"tenantIsolation,omitempty"`
	Durable          *durableRecord      `json:"durable,omitempty"`
	CapacityProvider *capacityRecord     `json:"capacityProvider,omitempty"`
	SigningProfile   string              `json:"signingProfileVersionArn,omitempty"`
	SigningJob       string              `json:"signingJobArn,omitempty"`
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

type imageRecord struct {
	URI              string   `json:"uri"`
	Resolved         string   `json:"resolved"`
	EntryPoint       []string `json:"entryPoint,omitempty"`
	Command          []string `json:"command,omitempty"`
	WorkingDirectory string   `json:"workingDirectory,omitempty"`
}

type durableRecord struct {
	ExecutionTimeout time.Duration `json:"executionTimeout"` // nanoseconds
	RetentionDays    int           `json:"retentionDays"`
	KMSKeyARN        string        `json:"kmsKeyArn,omitempty"`
}

type capacityRecord struct {
	ARN             string  `json:"arn"`
	MaxConcurrency  int     `json:"maxConcurrency,omitempty"`
	MemoryGiBPerCPU float64 `json:"memoryGiBPerCpu,omitempty"`
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

func encode(f *hearth.Function, secrets vault) (c configuration, err error) {
	c = configuration{
		Account: string(f.Account), Region: f.Region, Name: f.Name, Version: f.Version, Generation: f.Generation,
		Runtime: f.Runtime, Handler: f.Handler, Role: f.Role, Description: f.Description,
		MemoryMiB: f.MemoryMiB, TimeoutSeconds: int(f.Timeout / time.Second), TmpMiB: f.TmpMiB,
		Architectures: f.Architectures, PackageType: f.PackageType, Package: packageRecord(f.Package),
		Logging: loggingRecord(f.Logging), TracingMode: f.TracingMode, DeadLetterTarget: f.DeadLetterTarget,
		KMSKeyARN: f.KMSKeyARN, SnapStart: f.SnapStart, VPC: vpcRecord(f.VPC),
		Image: (*imageRecord)(f.Image), TenantIsolation: f.TenantIsolation, Durable: (*durableRecord)(f.Durable),
		CapacityProvider: (*capacityRecord)(f.CapacityProvider),
		SigningProfile:   f.SigningProfileVersionARN, SigningJob: f.SigningJobARN,
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
		if c.Env, c.EnvKey, err = secrets.seal(f, plain); err != nil {
			return c, err
		}
	} else if f.KMSKeyARN != "" && secrets.keys != nil {
		// Nothing to seal, or nothing left since the key is gone: then what is
		// on the disk stays there, in case that the key comes back.
		if err := secrets.keys.Check(f.KMSKeyARN); hearth.KindOf(err) == hearth.KMSNotFound {
			return c, err
		}
	}
	return c, nil
}

func decode(c *configuration, secrets vault) (*hearth.Function, error) {
	f := &hearth.Function{
		Account: hearth.Account(c.Account), Region: c.Region, Name: c.Name, Version: c.Version, Generation: c.Generation,
		Runtime: c.Runtime, Handler: c.Handler, Role: c.Role, Description: c.Description,
		MemoryMiB: c.MemoryMiB, Timeout: time.Duration(c.TimeoutSeconds) * time.Second, TmpMiB: c.TmpMiB,
		Architectures: c.Architectures, PackageType: c.PackageType, Package: hearth.Package(c.Package),
		Logging: hearth.Logging(c.Logging), TracingMode: c.TracingMode, DeadLetterTarget: c.DeadLetterTarget,
		KMSKeyARN: c.KMSKeyARN, SnapStart: c.SnapStart, VPC: hearth.VPC(c.VPC),
		Image: (*hearth.Image)(c.Image), TenantIsolation: c.TenantIsolation, Durable: (*hearth.Durable)(c.Durable),
		CapacityProvider:         (*hearth.CapacityProvider)(c.CapacityProvider),
		SigningProfileVersionARN: c.SigningProfile, SigningJobARN: c.SigningJob,
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
		plain, err := secrets.open(f, c.Env, c.EnvKey)
		if err != nil {
			return nil, fmt.Errorf("environment: %w", err)
		}
		if plain == nil {
			return f, nil
		}
		if err := json.Unmarshal(plain, &f.Env); err != nil {
			return nil, errors.New("environment: not JSON") // the cause could quote it
		}
	}
	return f, nil
}

// write puts what differs between old and new into the store, durably.
func (r *Registry) write(ctx context.Context, k key, old, new *view) error {
	r.sealing.RLock()
	defer r.sealing.RUnlock()
	before, err := old.records(k, r.vault(), nil)
	if err != nil {
		return err
	}
	after, err := new.records(k, r.vault(), before)
	if err != nil {
		return err
	}
	return r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for _, at := range slices.SortedFunc(maps.Keys(before), place.compare) {
			if _, kept := after[at]; kept {
				continue
			}
			if err := tx.Delete(at.bucket, at.key); err != nil {
				return err
			}
		}
		for _, at := range slices.SortedFunc(maps.Keys(after), place.compare) {
			if after[at].same {
				continue
			}
			if err := tx.Put(at.bucket, at.key, after[at].value); err != nil {
				return err
			}
		}
		return nil
	})
}

// place is where a record is.
type place struct{ bucket, key string }

func (p place) compare(q place) int {
	return cmp.Or(strings.Compare(p.bucket, q.bucket), strings.Compare(p.key, q.key))
}

// record is one record of a view: what it was made from, and its bytes,
// unless it is the same as before.
type record struct {
	of    any
	value []byte
	same  bool
}

// records are the records of which v consists. Those that hold what they held
// before are marked and not encoded: what is in a view never changes, so that
// the same pointer is the same content. With a nil before nothing is encoded.
func (v *view) records(k key, secrets vault, before map[place]record) (map[place]record, error) {
	all := map[place]record{}
	if v == nil {
		return all, nil
	}
	add := func(at place, of any, encode func() (any, error)) error {
		rec := record{of: of}
		if was, ok := before[at]; ok && was.of == of {
			rec.same = true
		} else if before != nil {
			disk, err := encode()
			if err != nil {
				return err
			}
			if rec.value, err = json.Marshal(disk); err != nil {
				return err
			}
		}
		all[at] = rec
		return nil
	}
	if err := add(place{functionsBucket, k.record()}, v, func() (any, error) { return v.encode(secrets) }); err != nil {
		return nil, err
	}
	for i := range v.versions {
		ver := &v.versions[i]
		err := add(place{versionsBucket, k.versionKey(ver.number)}, ver.f, func() (any, error) {
			c, err := encode(ver.f, secrets)
			return versionRecord{c, ver.description}, err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, a := range v.aliases {
		err := add(place{aliasesBucket, k.record() + "/" + a.Name}, a, func() (any, error) {
			return aliasRecord{a.Version, a.Description, a.Weights, a.RevisionID}, nil
		})
		if err != nil {
			return nil, err
		}
	}
	for qualifier, s := range v.settings {
		err := add(place{settingsBucket, k.record() + "/" + qualifier}, s, func() (any, error) { return s, nil })
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (v *view) encode(secrets vault) (rec functionRecord, err error) {
	c, err := encode(v.newest, secrets)
	if err != nil {
		return rec, err
	}
	rec = functionRecord{Newest: c, Next: v.next, Tags: v.tags, None: v.active == nil}
	if v.active != nil && v.active != v.newest {
		c, err := encode(v.active, secrets)
		if err != nil {
			return rec, err
		}
		rec.Active = &c
	}
	if p := v.published; p != nil {
		c, err := encode(p.newest, secrets)
		if err != nil {
			return rec, err
		}
		rec.Published = &versionRecord{c, p.description}
		if p.active != nil && p.active != p.newest {
			c, err := encode(p.active, secrets)
			if err != nil {
				return rec, err
			}
			rec.Running = &c
		}
	}
	return rec, nil
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
