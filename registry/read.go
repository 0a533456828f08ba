package registry

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hearth-faas/hearth"
)

// decoder reads records of functions and versions. It is used by one goroutine,
// for any number of them.
type decoder struct {
	parser
	secrets  vault
	function functionRecord // being read
	version  versionRecord  // being read
}

func newDecoder(secrets vault) *decoder {
	return &decoder{parser: parser{texts: map[string]string{}}, secrets: secrets}
}

// view reads a function without its versions.
func (d *decoder) view(data []byte) (*view, error) {
	rec := &d.function
	*rec = functionRecord{}
	if !d.readFunction(data, rec) {
		*rec = functionRecord{}
		if err := json.Unmarshal(data, rec); err != nil {
			return nil, err
		}
	}
	newest, err := decode(&rec.Newest, d.secrets)
	if err != nil {
		return nil, err
	}
	v := &view{newest: newest, active: newest, next: rec.Next, tags: rec.Tags}
	switch {
	case rec.None:
		v.active = nil
	case rec.Active != nil:
		if v.active, err = decode(rec.Active, d.secrets); err != nil {
			return nil, err
		}
	}
	if rec.Published != nil {
		if v.published, err = decodePublished(rec, d.secrets); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func decodePublished(rec *functionRecord, secrets vault) (*published, error) {
	f, err := decode(&rec.Published.Function, secrets)
	if err != nil {
		return nil, err
	}
	p := &published{newest: f, description: rec.Published.Description}
	switch {
	case rec.Running != nil:
		p.active, err = decode(rec.Running, secrets)
	case f.State == hearth.Active:
		p.active = f
	}
	return p, err
}

// publishedVersion reads a published version.
func (d *decoder) publishedVersion(data []byte) (version, error) {
	rec := &d.version
	*rec = versionRecord{}
	if !d.readVersion(data, rec) {
		*rec = versionRecord{}
		if err := json.Unmarshal(data, rec); err != nil {
			return version{}, err
		}
	}
	f, err := decode(&rec.Function, d.secrets)
	if err != nil {
		return version{}, err
	}
	n := number(f.Version)
	if n == 0 {
		return version{}, fmt.Errorf("the version %q", f.Version)
	}
	return version{n, f, rec.Description}, nil
}

// readFunction and readVersion fill rec by the parser. If they return false it
// could not, and rec may have been filled in part.

func (p *parser) readFunction(data []byte, rec *functionRecord) bool {
	p.start(data)
	p.object(func(name []byte) {
		switch string(name) {
		case "newest":
			p.configuration(&rec.Newest)
		case "next":
			rec.Next = int(p.number())
		case "none":
			rec.None = p.bool()
		case "active":
			p.other(&rec.Active)
		case "published":
			p.other(&rec.Published)
		case "running":
			p.other(&rec.Running)
		case "tags":
			p.other(&rec.Tags)
		default:
			p.giveUp()
		}
	})
	return p.done()
}

func (p *parser) readVersion(data []byte, rec *versionRecord) bool {
	p.start(data)
	p.object(func(name []byte) {
		switch string(name) {
		case "function":
			p.configuration(&rec.Function)
		case "description":
			rec.Description = p.string()
		default:
			p.giveUp()
		}
	})
	return p.done()
}

// configuration reads a configuration: what most have, itself; a name that is
// not here, or not as it is written now, makes it give up.
func (p *parser) configuration(c *configuration) {
	p.object(func(name []byte) {
		switch string(name) {
		case "account":
			c.Account = p.shared()
		case "region":
			c.Region = p.shared()
		case "name":
			c.Name = p.string()
		case "version":
			c.Version = p.shared()
		case "generation":
			if n := p.number(); n < 0 {
				p.giveUp()
			} else {
				c.Generation = uint64(n)
			}
		case "runtime":
			c.Runtime = p.shared()
		case "handler":
			c.Handler = p.shared()
		case "role":
			c.Role = p.shared()
		case "description":
			c.Description = p.string()
		case "memoryMiB":
			c.MemoryMiB = int(p.number())
		case "timeoutSeconds":
			c.TimeoutSeconds = int(p.number())
		case "tmpMiB":
			c.TmpMiB = int(p.number())
		case "architectures":
			c.Architectures = p.strings()
		case "env":
			p.other(&c.Env)
		case "envKey":
			c.EnvKey = p.shared()
		case "packageType":
			c.PackageType = p.shared()
		case "package":
			p.packageRecord(&c.Package)
		case "layers":
			p.other(&c.Layers)
		case "logging":
			p.other(&c.Logging)
		case "tracingMode":
			c.TracingMode = p.shared()
		case "deadLetterTarget":
			c.DeadLetterTarget = p.shared()
		case "kmsKeyArn":
			c.KMSKeyARN = p.shared()
		case "snapStart":
			c.SnapStart = p.shared()
		case "vpc":
			p.other(&c.VPC)
		case "fileSystems":
			p.other(&c.FileSystems)
		case "image":
			p.other(&c.Image)
		case "tenantIsolation":
			c.TenantIsolation = p.shared()
		case "durable":
			p.other(&c.Durable)
		case "capacityProvider":
			p.other(&c.CapacityProvider)
		case "signingProfileVersionArn":
			c.SigningProfile = p.shared()
		case "signingJobArn":
			c.SigningJob = p.string()
		case "state":
			c.State = hearth.State(p.shared())
		case "stateReason":
			c.StateReason = p.string()
		case "stateReasonCode":
			c.StateReasonCode = p.shared()
		case "updateStatus":
			c.UpdateStatus = hearth.UpdateStatus(p.shared())
		case "updateReason":
			c.UpdateReason = p.string()
		case "updateReasonCode":
			c.UpdateReasonCode = p.shared()
		case "lastModified":
			p.time(&c.LastModified)
		case "revisionId":
			c.RevisionID = p.string()
		case "runtimeVersionArn":
			c.RuntimeVersion = p.shared()
		case "masterArn":
			c.MasterARN = p.shared()
		case "publishedAt":
			p.time(&c.PublishedAt)
		default:
			p.giveUp()
		}
	})
}

func (p *parser) packageRecord(to *packageRecord) {
	p.object(func(name []byte) {
		switch string(name) {
		case "sha256":
			to.SHA256 = p.shared()
		case "size":
			to.Size = p.number()
		case "unpacked":
			to.Unpacked = p.number()
		default:
			p.giveUp()
		}
	})
}

// time reads a time.
func (p *parser) time(t *time.Time) {
	lit, _ := p.literal()
	if p.gave || t.UnmarshalJSON(lit) != nil {
		p.giveUp()
	}
}
