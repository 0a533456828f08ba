package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A setting is a flag that can be given in three more places. The first that
// gives it wins: the command line, the environment (HEARTH_ and the flag's
// name in capitals), the configuration file (TOML, the flag's name as key),
// the default.
//
// The file is TOML because it is typed, has comments and one obvious way to
// write a list, and because it has no second reading as YAML has.

// settingGroup annotates a flag that is a setting with its place in the help.
const settingGroup = "hearth-group"

func markSetting(f *pflag.Flag, group string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[settingGroup] = []string{group}
}

// envName is the variable that gives the flag of that name.
func envName(flag string) string {
	return "HEARTH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settle gives every setting of cmd that the command line does not its value
// from the environment or the file.
func (a *app) settle(cmd *cobra.Command) error {
	if a.config == "" {
		a.config = a.getenv(envName("config"))
	}
	file, err := a.readConfig(cmd)
	if err != nil {
		return err
	}
	var wrong error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Annotations[settingGroup]; !ok || f.Changed || wrong != nil {
			return
		}
		if s := a.getenv(envName(f.Name)); s != "" {
			if err := cmd.Flags().Set(f.Name, s); err != nil {
				wrong = usage(fmt.Sprintf("%s=%q is not right: %v", envName(f.Name), s, cause(err)), "See "+cmd.CommandPath()+" --help.")
			}
			return
		}
		if v, ok := file[f.Name]; ok {
			if err := setFromFile(cmd.Flags(), f, v); err != nil {
				wrong = usage(fmt.Sprintf("%s: %s is not right: %v", a.configFile(), f.Name, cause(err)), "See hearth up --help.")
			}
		}
	})
	return wrong
}

func (a *app) configFile() string {
	if a.config != "" {
		return a.config
	}
	return defaultConfigFile(a.getenv, os.Geteuid())
}

// readConfig reads the configuration file, which need not be there unless it
// was named, and refuses a key that is no setting of any command.
func (a *app) readConfig(cmd *cobra.Command) (map[string]any, error) {
	path := a.configFile()
	values := map[string]any{}
	_, err := toml.DecodeFile(path, &values)
	if errors.Is(err, fs.ErrNotExist) && a.config == "" {
		return nil, nil
	}
	if p, ok := errors.AsType[toml.ParseError](err); ok {
		return nil, usage(fmt.Sprintf("%s: line %d: %s", path, p.Position.Line, p.Message), "It is TOML; a line is: listen = \"127.0.0.1:9070\"")
	}
	if err != nil {
		return nil, failed("the configuration can't be read", err, "")
	}
	known := map[string]bool{}
	for _, c := range append(cmd.Root().Commands(), cmd.Root()) {
		add := func(f *pflag.Flag) {
			if _, ok := f.Annotations[settingGroup]; ok {
				known[f.Name] = true
			}
		}
		c.Flags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
	}
	for key := range maps.Keys(values) {
		if !known[key] {
			return nil, usage(fmt.Sprintf("%s: there is no setting %q", path, key),
				"Settings are: "+strings.Join(slices.Sorted(maps.Keys(known)), ", ")+".")
		}
	}
	return values, nil
}

func setFromFile(flags *pflag.FlagSet, f *pflag.Flag, v any) error {
	switch v := v.(type) {
	case []any:
		list, ok := f.Value.(pflag.SliceValue)
		if !ok {
			return errors.New("one value, not a list, is wanted")
		}
		items := make([]string, len(v))
		for i := range v {
			items[i] = fmt.Sprint(v[i])
		}
		return list.Replace(items)
	case string, bool, int64, float64:
		return flags.Set(f.Name, fmt.Sprint(v))
	default:
		return fmt.Errorf("%v is no plain value", v)
	}
}

// cause is the innermost error: pflag wraps it in the flag's name, which the
// caller says better.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// defaultDataDir is /var/lib/hearth for root, and otherwise where the XDG
// base directory specification puts a user's data.
func defaultDataDir(getenv func(string) string, uid int) string {
	if uid == 0 {
		return "/var/lib/hearth"
	}
	return filepath.Join(xdg(getenv, "XDG_DATA_HOME", ".local/share"), "hearth")
}

// defaultConfigFile is where the configuration is looked for.
func defaultConfigFile(getenv func(string) string, uid int) string {
	if uid == 0 {
		return "/etc/hearth/hearth.toml"
	}
	return filepath.Join(xdg(getenv, "XDG_CONFIG_HOME", ".config"), "hearth", "hearth.toml")
}

// xdg is the folder that a variable names; the specification has relative
// paths ignored.
func xdg(getenv func(string) string, variable, otherwise string) string {
	if dir := getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(getenv("HOME"), otherwise)
}

// duration is a flag's value that also understands days, as in 14d.
type duration time.Duration

func (d *duration) String() string {
	t := time.Duration(*d)
	if t >= 24*time.Hour && t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (d *duration) Set(s string) error {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 100_000 {
			return fmt.Errorf("%q is no number of days", s)
		}
		*d = duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is no duration such as 90s, 15m or 14d", s)
	}
	*d = duration(t)
	return nil
}

func (d *duration) Type() string { return "duration" }
