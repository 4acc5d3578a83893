package diff

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var names = []string{"id", "hp", "stock", "a", "b", "", "~/*", "é", "12"}

// tree draws a document.
func tree(depth int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		kinds := 7
		if depth == 0 {
			kinds = 5
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return NewNull()
		case 1:
			return NewBool(rapid.Bool().Draw(t, "bool"))
		case 2:
			return Value{kind: Number, text: rapid.SampledFrom([]string{"0", "-0", "1", "1.0", "-7", "1.50", "15e-1", "9007199254740993", "1e400", "100", "0.001"}).Draw(t, "number")}
		case 3:
			return NewString(rapid.SampledFrom([]string{"", "1", "1.5", "x", "\"\\/", "\n\x00", "\xff", "é", "null"}).Draw(t, "string"))
		case 4:
			return NewString(rapid.String().Draw(t, "any string"))
		case 5:
			return NewList(rapid.SliceOfN(tree(depth-1), 0, 5).Draw(t, "list")...)
		}
		keys := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 5, rapid.ID[string]).Draw(t, "names")
		var members []Member
		for _, k := range keys {
			members = append(members, Member{k, tree(depth-1).Draw(t, k)})
		}
		return NewObject(members...)
	})
}

// toAny turns a value into what go-cmp can compare, by another way than ours.
func toAny(v Value) any {
	switch v.kind {
	case List:
		out := []any{}
		for _, e := range v.items {
			out = append(out, toAny(e))
		}
		return out
	case Object:
		out := map[string]any{}
		for i, n := range v.names {
			out[n] = toAny(v.items[i])
		}
		return out
	case Number:
		r, _ := rational(v.text)
		if r == nil {
			return json.Number(v.text)
		}
		return json.Number(r.RatString())
	default:
		return [2]string{v.kind.String(), v.text}
	}
}

// encode writes v as JSON with random white space, escapes and member order.
func encode(r *rand.Rand, v Value) []byte {
	space := func(b []byte) []byte {
		return append(b, []string{"", "", " ", "\n\t", "\r\n"}[r.IntN(5)]...)
	}
	quote := func(b []byte, s string) []byte {
		b = append(b, '"')
		for i := range len(s) {
			switch c := s[i]; {
			case c < 0x20 || c == '"' || c == '\\' || c < 0x7f && r.IntN(8) == 0:
				b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789ABCDEF"[c&15])
			default:
				b = append(b, c)
			}
		}
		return append(b, '"')
	}
	var write func(b []byte, v Value) []byte
	write = func(b []byte, v Value) []byte {
		b = space(b)
		switch v.kind {
		case List, Object:
			b = append(b, "[{"[v.kind-List])
			for n, i := range r.Perm(len(v.items)) {
				if n > 0 {
					b = append(b, ',')
				}
				if v.kind == List {
					i = n
				} else {
					b = append(space(quote(space(b), v.names[i])), ':')
				}
				b = write(b, v.items[i])
			}
			b = append(space(b), "]}"[v.kind-List])
		case String:
			b = quote(b, v.text)
		default:
			b = append(b, v.String()...)
		}
		return space(b)
	}
	return write(nil, v)
}

func TestEqualExactlyWhenGoCmpSaysSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := tree(3).Draw(t, "a"), tree(3).Draw(t, "b")
		r := Compare(a, b, nil, Options{})
		if want := cmp.Equal(toAny(a), toAny(b)); r.Equal() != want {
			t.Fatalf("%v and %v: %s, go-cmp says %v", a, b, r.Summary(), want)
		}
		if a.Equal(b) != r.Equal() {
			t.Fatalf("Equal says %v, but %s", a.Equal(b), r.Summary())
		}
		if (a.Canonical() == b.Canonical()) != r.Equal() {
			t.Fatalf("canonical texts %q %q, but %s", a.Canonical(), b.Canonical(), r.Summary())
		}
	})
}

func TestDocumentEqualsItselfAndEveryLeafIsAccounted(t *testing.T) {
	rules := ruleSet(t, "/**/a ignore why x\n/**/b unordered\n/**/hp counter\n/**/stock opaque\n\"\" loose php")
	rapid.Check(t, func(t *rapid.T) {
		v := tree(4).Draw(t, "v")
		for _, rules := range []*Rules{nil, rules} {
			r := Compare(v, v, rules, Options{Session: NewSession(), Undecided: func(_ string, p Path) bool { return len(p) > 9 }})
			for _, d := range r.Differences {
				if len(d.Near) < 7 || d.Near[:7] != "counter" { // two counters may share a path only through index
					t.Fatal(d)
				}
			}
			if n := r.Compared + r.Muted + r.Undecided; n != v.Leaves() {
				t.Fatalf("%d of %d leaves: %s", n, v.Leaves(), r.Summary())
			}
		}
	})
}

func TestClassesAreSymmetric(t *testing.T) {
	mirror := map[Class]Class{ClassMissing: ClassExtra, ClassExtra: ClassMissing, ClassValue: ClassValue, ClassType: ClassType, ClassOrder: ClassOrder}
	rules := ruleSet(t, "\"\" loose numeric_string\n/**/hp within 1\n/b unordered_by id")
	rapid.Check(t, func(t *rapid.T) {
		a, b := tree(3).Draw(t, "a"), tree(3).Draw(t, "b")
		for _, rules := range []*Rules{nil, rules} {
			there, back := map[Class]int{}, map[Class]int{}
			r := Compare(a, b, rules, Options{Keep: 1000})
			for _, d := range r.Differences {
				there[mirror[d.Class]]++
			}
			q := Compare(b, a, rules, Options{Keep: 1000})
			for _, d := range q.Differences {
				back[d.Class]++
			}
			if d := cmp.Diff(there, back); d != "" {
				t.Fatalf("%v\n%v\n%s", a, b, d)
			}
		}
	})
}

func TestPermutationIsNoDifferenceWhereOrderDoesNotMatter(t *testing.T) {
	byID := ruleSet(t, `"" unordered_by id`)
	whole := ruleSet(t, `"" unordered`)
	rapid.Check(t, func(t *rapid.T) {
		var items []Value
		for i := range rapid.IntRange(0, 8).Draw(t, "n") {
			id := i
			if rapid.IntRange(0, 3).Draw(t, "dup") == 0 {
				id = 0 // a key that comes more than once
			}
			items = append(items, NewObject(Member{"id", Value{kind: Number, text: strconv.Itoa(id)}}, Member{"v", tree(2).Draw(t, "v")}))
		}
		shuffled := rapid.Permutation(items).Draw(t, "shuffled")
		a, b := NewList(items...), NewList(shuffled...)
		for _, rules := range []*Rules{byID, whole} {
			if r := Compare(a, b, rules, Options{}); !r.Equal() {
				t.Fatal(r.Text(100))
			}
		}
	})
}

// mutate changes the n-th leaf of v into something else and returns its path.
func mutate(v Value, n *int, path Path) (Value, Path, bool) {
	if len(v.items) == 0 {
		if *n--; *n >= 0 {
			return v, "", false
		}
		if v.kind == String && v.text == "mutant" {
			return NewNull(), path, true
		}
		return NewString("mutant"), path, true
	}
	for i, e := range v.items {
		name := strconv.Itoa(i)
		if v.kind == Object {
			name = v.names[i]
		}
		if m, at, ok := mutate(e, n, path+NewPath(name)); ok {
			v.items = append([]Value{}, v.items...)
			v.items[i] = m
			return v, at, true
		}
	}
	return v, "", false
}

func TestEveryMutatedLeafIsFoundAtItsPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := tree(4).Draw(t, "v")
		for leaf := range v.Leaves() {
			n := leaf
			m, at, _ := mutate(v, &n, "")
			r := Compare(v, m, nil, Options{})
			if r.Total != 1 || r.Differences[0].Path != at {
				t.Fatalf("mutant at %q: %s", at, r.Text(100))
			}
			if d := r.Differences[0]; d.Legacy.Canonical() != v.At(at).Canonical() || d.Candidate.Canonical() != m.At(at).Canonical() {
				t.Fatalf("%s: sides are not those at its path", d)
			}
		}
	})
}

var verdictRules = []string{
	"",
	`"" loose php`,
	"/a loose php\n/hp within 1\n/stock ignore why x",
	"/*/a ignore why x\n/0 clock 2s\n/**/b unordered",
	"\"\" unordered_by id\n/*/hp within 50%",
	"/**/hp opaque\n/stock counter",
}

// agree holds EqualJSON to CompareJSON.
func agree(t interface {
	Fatalf(string, ...any)
	Helper()
}, a, b []byte, rules *Rules) {
	t.Helper()
	verdict := EqualJSON(a, b, rules)
	x, errA := Decode(a)
	y, errB := Decode(b)
	if errA != nil || errB != nil {
		if (verdict == Equal || verdict == Tolerated) && string(a) != string(b) {
			t.Fatalf("%q and %q are %s, but %v, %v", a, b, verdict, errA, errB)
		}
		return
	}
	r := Compare(x, y, rules, Options{})
	switch {
	case verdict == Invalid:
		t.Fatalf("%q and %q are JSON, and found invalid", a, b)
	case verdict == Equal && (!r.Equal() || !same(&x, &y)), verdict == Tolerated && !r.Equal():
		t.Fatalf("%q and %q are %s, but %s", a, b, verdict, r.Text(100))
	case verdict == Different && r.Equal() && !anyRepeated(x) && !anyRepeated(y):
		t.Fatalf("%q and %q are different, but %s", a, b, r.Text(100))
	}
}

func anyRepeated(v Value) bool {
	for _, e := range v.items {
		if anyRepeated(e) {
			return true
		}
	}
	return v.repeated
}

func TestEqualJSONAgreesWithTheReport(t *testing.T) {
	var sets []*Rules
	for _, text := range verdictRules {
		sets = append(sets, ruleSet(t, text))
	}
	rapid.Check(t, func(t *rapid.T) {
		v := tree(3).Draw(t, "v")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		a, b := encode(r, v), encode(r, v)
		if got := EqualJSON(a, b, nil); got != Equal {
			t.Fatalf("%q and %q: %s", a, b, got)
		}
		if n := v.Leaves(); n > 0 {
			at := rapid.IntRange(0, n-1).Draw(t, "leaf")
			m, _, _ := mutate(v, &at, "")
			b = encode(r, m)
		}
		other := encode(r, tree(3).Draw(t, "other"))
		for _, rules := range sets {
			agree(t, a, b, rules)
			agree(t, a, other, rules)
		}
	})
}

func FuzzEqualJSON(f *testing.F) {
	var sets []*Rules
	for _, text := range verdictRules {
		sets = append(sets, ruleSet(f, text))
	}
	for _, s := range [][2]string{
		{`{"a":1,"b":2}`, `{"b":2,"a":1.0}`}, {`{"a":1,"a":null}`, `{"a":1}`}, {`[1,]`, `[1,]  `}, {`{"a":[1x]}`, ` {"a":[1x]}`},
		{`{"b":1,"a":1,"a":2}`, `{"a":2,"b":1,"a":1}`}, {`"\ud800"`, `"\ud801"`}, {`{"a":null}`, `{}`}, {`[{"id":1},{"id":2}]`, `[{"id":2},{"id":1}]`},
		{`{"a":1 2,"b":1}`, `{"b":1,"a":1 2}`}, {`{"x":1,"a":1,"a":null}`, `{"x":1,"a":1}`}, {`{"a":1}`, `{"a":1,"a":null}`},
		{`{"hp":1,"stock":2}`, `{"hp":2,"stock":1}`},
	} {
		for set := range verdictRules {
			f.Add([]byte(s[0]), []byte(s[1]), byte(set))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte, set byte) {
		agree(t, a, b, sets[int(set)%len(sets)])
	})
}
