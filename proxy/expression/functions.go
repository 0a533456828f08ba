package expression

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// maxText bounds what one function makes, before it makes it: CEL's own
// functions for text (its extension "strings") look at the size afterwards.
const maxText = 1 << 20

// functions are those on text that mappings want, by the names that they have
// in CEL's extension.
func functions() []cel.EnvOption {
	unary := func(name string, of func(string) string) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload("string_"+name, []*cel.Type{cel.StringType}, cel.StringType,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				s, ok := v.(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(v)
				}
				return types.String(of(string(s)))
			})))
	}
	return []cel.EnvOption{
		unary("lowerAscii", lowerASCII),
		unary("upperAscii", upperASCII),
		unary("trim", strings.TrimSpace),
		cel.Function("replace", cel.MemberOverload("string_replace", []*cel.Type{cel.StringType, cel.StringType, cel.StringType}, cel.StringType,
			cel.FunctionBinding(replace))),
		cel.Function("split", cel.MemberOverload("string_split", []*cel.Type{cel.StringType, cel.StringType}, cel.ListType(cel.StringType),
			cel.BinaryBinding(split))),
		cel.Function("join", cel.MemberOverload("list_join", []*cel.Type{cel.ListType(cel.StringType), cel.StringType}, cel.StringType,
			cel.BinaryBinding(join))),
	}
}

func lowerASCII(s string) string { return mapASCII(s, 'A', 'Z', 'a'-'A') }
func upperASCII(s string) string { return mapASCII(s, 'a', 'z', -('a' - 'A')) }

func mapASCII(s string, from, to rune, by rune) string {
	return strings.Map(func(r rune) rune {
		if from <= r && r <= to {
			return r + by
		}
		return r
	}, s)
}

func tooLong() ref.Val { return types.NewErr("a text of more than %d bytes would be made", maxText) }

func replace(args ...ref.Val) ref.Val {
	s, ok1 := args[0].(types.String)
	old, ok2 := args[1].(types.String)
	by, ok3 := args[2].(types.String)
	if !ok1 || !ok2 || !ok3 {
		return types.MaybeNoSuchOverloadErr(args[0])
	}
	if len(s)+strings.Count(string(s), string(old))*len(by) > maxText {
		return tooLong()
	}
	return types.String(strings.ReplaceAll(string(s), string(old), string(by)))
}

func split(text, sep ref.Val) ref.Val {
	s, ok1 := text.(types.String)
	by, ok2 := sep.(types.String)
	if !ok1 || !ok2 {
		return types.MaybeNoSuchOverloadErr(text)
	}
	return types.DefaultTypeAdapter.NativeToValue(strings.Split(string(s), string(by)))
}

func join(list, sep ref.Val) ref.Val {
	l, ok1 := list.(traits.Lister)
	by, ok2 := sep.(types.String)
	if !ok1 || !ok2 {
		return types.MaybeNoSuchOverloadErr(list)
	}
	var b strings.Builder
	for i, it := 0, l.Iterator(); it.HasNext() == types.True; i++ {
		s, ok := it.Next().(types.String)
		if !ok {
			return types.NewErr("join takes a list of texts")
		}
		if b.Len()+len(by)+len(s) > maxText {
			return tooLong()
		}
		if i > 0 {
			b.WriteString(string(by))
		}
		b.WriteString(string(s))
	}
	return types.String(b.String())
}

// costs says what the functions cost: by the text that they read and make, as
// CEL's own.
type costs struct{}

// CallCost implements cost.ActualCostEstimator.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	switch function {
	case "lowerAscii", "upperAscii", "trim", "replace", "split", "join":
	default:
		return nil
	}
	n := uint64(1)
	for _, v := range append([]ref.Val{result}, args...) {
		switch v := v.(type) {
		case types.String:
			n += uint64(len(v)) / 10
		case traits.Sizer:
			if size, ok := v.Size().(types.Int); ok {
				n += uint64(size)
			}
		}
	}
	return &n
}
