package registry_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

// modelled is a function as the plainest registry would keep it.
type modelled struct {
	text     string // of its code
	memory   int
	env      map[string]string
	desc     string
	versions map[int]modelled
	next     int
	// last is what the newest version was made of.
	last *modelled
	// published is $LATEST.PUBLISHED, and publishedOf what that was made of.
	published, publishedOf *modelled

	tags map[string]string
}

// placed is a function on a capacity provider, which the others are not.
const placed = "c"

// bare is the code and configuration alone.
func (m *modelled) bare() modelled {
	return modelled{text: m.text, memory: m.memory, env: m.env, desc: m.desc}
}

// TestItAnswersAsAPlainModelDoes runs random operations, restarts among them,
// against a map.
func TestItAnswersAsAPlainModelDoes(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "c"})
	texts := rapid.SampledFrom([]string{"one", "two", "three"})
	memories := rapid.SampledFrom([]int{128, 256})
	descs := rapid.SampledFrom([]string{"", "first", "second"})
	envs := rapid.SampledFrom([]map[string]string{{}, {"A": "1"}, {"A": "2", "B": "<é>"}})
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "model")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		w := newWorld(t, dir, nil)
		defer func() { w.close() }()
		model := map[string]*modelled{}
		generations := map[uint64]string{}
		seen := func(f *hearth.Function) {
			what := fmt.Sprint(f.Name, f.Version, f.Package, f.MemoryMiB, f.Env, f.Description)
			if was, ok := generations[f.Generation]; ok && was != what {
				t.Fatalf("generation %d is of\n%s and\n%s", f.Generation, was, what)
			}
			generations[f.Generation] = what
		}
		publish := func(m *modelled, desc *string) int {
			now := m.bare()
			if _, kept := m.versions[m.next-1]; kept && m.last != nil && same(*m.last, now) {
				return m.next - 1
			}
			m.last = &now
			made := now
			if desc != nil {
				made.desc = *desc
			}
			m.versions[m.next] = made
			m.next++
			return m.next - 1
		}
		outcome := func(f *hearth.Function, err error, m *modelled) bool {
			t.Helper()
			if m == nil {
				if hearth.KindOf(err) != hearth.NotFound {
					t.Fatalf("of none: %v", err)
				}
				return false
			}
			w.must(err)
			return true
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				name, text, pub := names.Draw(rt, "name"), texts.Draw(rt, "text"), rapid.Bool().Draw(rt, "publish")
				f := function(name)
				f.MemoryMiB, f.Env, f.Description = memories.Draw(rt, "memory"), envs.Draw(rt, "env"), descs.Draw(rt, "desc")
				if name == placed {
					f.CapacityProvider = &hearth.CapacityProvider{ARN: onProvider}
				}
				got, err := w.Create(ctx, registry.Create{Function: f, Zip: code(text), Publish: pub, Tags: map[string]string{"n": name}})
				if model[name] != nil {
					if hearth.KindOf(err) != hearth.Conflict {
						t.Fatal(err)
					}
					return
				}
				w.must(err)
				m := &modelled{text: text, memory: f.MemoryMiB, env: f.Env, desc: f.Description, versions: map[int]modelled{}, next: 1, tags: map[string]string{"n": name}}
				model[name] = m
				if want := hearth.Latest; pub {
					want = fmt.Sprint(publish(m, nil))
					if got.Version != want {
						t.Fatalf("created %s, want %s", got.Version, want)
					}
				}
			},
			"code": func(rt *rapid.T) {
				name, text, pub, dry := names.Draw(rt, "name"), texts.Draw(rt, "text"), rapid.Bool().Draw(rt, "publish"), rapid.IntRange(0, 3).Draw(rt, "dry") == 0
				f, err := w.UpdateCode(ctx, account, name, registry.UpdateCode{Zip: code(text), Publish: pub, DryRun: dry})
				if m := model[name]; outcome(f, err, m) && !dry {
					m.text = text
					if pub {
						if n := publish(m, nil); f.Version != fmt.Sprint(n) {
							t.Fatalf("published %s, want %d", f.Version, n)
						}
					}
				}
			},
			"configuration": func(rt *rapid.T) {
				name, memory, desc, env := names.Draw(rt, "name"), memories.Draw(rt, "memory"), descs.Draw(rt, "desc"), envs.Draw(rt, "env")
				u := registry.UpdateConfiguration{MemoryMiB: &memory}
				some := rapid.IntRange(0, 3).Draw(rt, "some")
				if some&1 != 0 {
					u.Description = &desc
				}
				if some&2 != 0 {
					u.Env = env
				}
				f, err := w.UpdateConfiguration(ctx, account, name, u)
				if m := model[name]; outcome(f, err, m) {
					m.memory = memory
					if u.Description != nil {
						m.desc = desc
					}
					if u.Env != nil {
						m.env = env
					}
				}
			},
			"publish": func(rt *rapid.T) {
				name, desc := names.Draw(rt, "name"), rapid.Ptr(descs, true).Draw(rt, "desc")
				f, err := w.Publish(ctx, account, name, registry.Publish{Description: desc})
				if m := model[name]; outcome(f, err, m) {
					if n := publish(m, desc); f.Version != fmt.Sprint(n) {
						t.Fatalf("published %s, want %d", f.Version, n)
					}
				}
			},
			"publish latest": func(rt *rapid.T) {
				name, desc := names.Draw(rt, "name"), rapid.Ptr(descs, true).Draw(rt, "desc")
				f, err := w.Publish(ctx, account, name, registry.Publish{Description: desc, LatestPublished: true})
				m := model[name]
				if m != nil && name != placed {
					if hearth.KindOf(err) != hearth.InvalidParameter {
						t.Fatalf("published %s without a capacity provider: %v", describe(f), err)
					}
					return
				}
				if !outcome(f, err, m) {
					return
				}
				if f.Version != hearth.LatestPublished {
					t.Fatalf("published %s", describe(f))
				}
				if now := m.bare(); m.publishedOf == nil || !same(*m.publishedOf, now) {
					made := now
					if desc != nil {
						made.desc = *desc
					}
					m.published, m.publishedOf = &made, &now
				}
			},
			"delete latest": func(rt *rapid.T) {
				m := model[placed]
				err := w.Delete(ctx, account, placed, hearth.LatestPublished)
				if m == nil || m.published == nil {
					if hearth.KindOf(err) != hearth.NotFound {
						t.Fatal(err)
					}
					return
				}
				w.must(err)
				m.published, m.publishedOf = nil, nil
			},
			"delete": func(rt *rapid.T) {
				name := names.Draw(rt, "name")
				version := rapid.IntRange(0, 4).Draw(rt, "version")
				if version == 0 {
					if outcome(nil, w.Delete(ctx, account, name, ""), model[name]) {
						delete(model, name)
					}
					return
				}
				err := w.Delete(ctx, account, name, fmt.Sprint(version))
				m := model[name]
				if m != nil {
					if _, ok := m.versions[version]; ok {
						w.must(err)
						delete(m.versions, version)
						return
					}
				}
				if hearth.KindOf(err) != hearth.NotFound {
					t.Fatal(err)
				}
			},
			"tag": func(rt *rapid.T) {
				name, key := names.Draw(rt, "name"), texts.Draw(rt, "key")
				if outcome(nil, w.Tag(ctx, account, name, map[string]string{key: name}), model[name]) {
					model[name].tags[key] = name
				}
			},
			"untag": func(rt *rapid.T) {
				name, key := names.Draw(rt, "name"), texts.Draw(rt, "key")
				if outcome(nil, w.Untag(ctx, account, name, []string{key}), model[name]) {
					delete(model[name].tags, key)
				}
			},
			"restart": func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "really") == 0 {
					w.reopen()
				}
			},
			"": func(rt *rapid.T) {
				w.clock.Advance(time.Minute)
				usage := registry.Usage{Functions: len(model)}
				packages := map[string]bool{}
				var listed []string
				for _, name := range slices.Sorted(maps.Keys(model)) {
					m := model[name]
					listed = append(listed, name)
					latest := w.settled(name)
					check(rt, latest, *m)
					seen(latest)
					usage.CodeBytes += int64(len(code(m.text)))
					packages[m.text] = true
					if f := w.got(w.Resolve(ctx, account, name, hearth.Latest)); f != latest {
						t.Fatalf("%s resolves to %+v", name, f)
					}
					fs, _, err := w.Versions(ctx, account, name, "", 50)
					w.must(err)
					f, err := w.Resolve(ctx, account, name, "")
					switch {
					case name != placed && f == latest:
					case name == placed && m.published == nil && hearth.KindOf(err) == hearth.NoPublishedVersion:
					case name == placed && m.published != nil && f == fs[len(fs)-1]:
						check(rt, f, *m.published)
						seen(f)
						usage.CodeBytes += int64(len(code(m.published.text)))
						packages[m.published.text] = true
						fs = fs[:len(fs)-1]
					default:
						t.Fatalf("%s runs %+v, %v", name, f, err)
					}
					if len(fs) != len(m.versions)+1 {
						t.Fatalf("%s has %d versions, want %d", name, len(fs)-1, len(m.versions))
					}
					for i, n := range slices.Sorted(maps.Keys(m.versions)) {
						f := w.got(w.Resolve(ctx, account, name, fmt.Sprint(n)))
						if f != fs[i+1] {
							t.Fatalf("version %d is %+v and %+v", n, f, fs[i+1])
						}
						check(rt, f, m.versions[n])
						seen(f)
						usage.CodeBytes += int64(len(code(m.versions[n].text)))
						packages[m.versions[n].text] = true
					}
					if tags, err := w.Tags(ctx, account, name); err != nil || !maps.Equal(tags, m.tags) {
						t.Fatalf("tags %v %v, want %v", tags, err, m.tags)
					}
				}
				fs, _, err := w.List(ctx, account, "", 0, false)
				w.must(err)
				if got := namesOf(fs); !slices.Equal(got, listed) {
					t.Fatalf("listed %q, want %q", got, listed)
				}
				if u, err := w.Usage(ctx, account); u != usage || err != nil {
					t.Fatalf("usage %+v %v, want %+v", u, err, usage)
				}
				if rapid.IntRange(0, 19).Draw(rt, "count") == 0 {
					w.reopen() // after which no job holds a package
					if n := w.blobs(len(packages)); n != len(packages) {
						t.Fatalf("%d packages, want %d", n, len(packages))
					}
				}
			},
		})
	})
}

func same(a, b modelled) bool {
	return a.text == b.text && a.memory == b.memory && a.desc == b.desc && maps.Equal(a.env, b.env)
}

func namesOf(fs []*hearth.Function) (names []string) {
	for _, f := range fs {
		names = append(names, f.Name)
	}
	return names
}

func check(t *rapid.T, f *hearth.Function, m modelled) {
	t.Helper()
	if f.Package.Size != int64(len(code(m.text))) || f.Package.Unpacked != int64(len(m.text)) || f.MemoryMiB != m.memory || !maps.Equal(f.Env, m.env) || f.Description != m.desc || f.State != hearth.Active || f.UpdateStatus != hearth.UpdateSuccessful {
		t.Fatalf("%s is\n%+v\nwant %+v", describe(f), f, m)
	}
}
