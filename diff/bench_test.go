package diff

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// answers are two 16 KiB answers of one map: the candidate's in legacy's
// order, in another, and formatted otherwise.
func answers() (legacy, reordered, formatted []byte) {
	var a, b strings.Builder
	a.WriteString(`{"server_time":1700000000,"match":7,"units":[`)
	b.WriteString(`{"units":[`)
	for i := range 128 {
		if i > 0 {
			a.WriteByte(',')
			b.WriteByte(',')
		}
		fmt.Fprintf(&a, `{"id":%d,"owner":"player %d","province":%d,"hp":%d,"stock":%d.25,"state":"marching","moved_at":"2026-11-14 22:%02d:20"}`, i, i%9, i*7, i%100, i*3, i%60)
		fmt.Fprintf(&b, `{"hp":%d,"id":%d,"moved_at":"2026-11-14 22:%02d:20","owner":"player %d","province":%d,"state":"marching","stock":%d.25}`, i%100, i, i%60, i%9, i*7, i*3)
	}
	a.WriteString(`],"page":{"next":null,"size":128}}`)
	b.WriteString(`],"match":7,"page":{"size":128,"next":null},"server_time":1700000000}`)
	var v any
	if err := json.Unmarshal([]byte(a.String()), &v); err != nil {
		panic(err)
	}
	indented, _ := json.MarshalIndent(json.RawMessage(a.String()), "", " ")
	return []byte(a.String()), []byte(b.String()), indented
}

func decodeToAny(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// BenchmarkEqualJSON reports, beside its own time, how many times as long
// decoding both answers to any and comparing those takes in the same run.
func BenchmarkEqualJSON(b *testing.B) {
	legacy, reordered, formatted := answers()
	rules := ruleSet(b, "/server_time clock 2s\n/units unordered_by id entity unit/{id}\n/units/*/stock within 0.01")
	later := []byte(strings.Replace(string(reordered), "1700000000", "1700000001", 1))
	moved := []byte(strings.Replace(string(reordered), `"stock":3.25`, `"stock":3.255`, 1))
	for _, bb := range []struct {
		name      string
		candidate []byte
		rules     *Rules
		want      Verdict
	}{
		{"bytes", append([]byte{}, legacy...), nil, Equal},
		{"order", reordered, nil, Equal},
		{"whitespace", formatted, nil, Equal},
		{"order with rules", reordered, rules, Equal},
		{"order and clock", later, rules, Tolerated},
		{"order and tolerance in a list", moved, rules, Tolerated},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(legacy) + len(bb.candidate)))
			b.ReportAllocs()
			for b.Loop() {
				if v := EqualJSON(legacy, bb.candidate, bb.rules); v != bb.want {
					b.Fatal(v)
				}
			}
			own := b.Elapsed() / time.Duration(b.N)
			const times = 200
			start := time.Now()
			for range times {
				decodeToAny(legacy, bb.candidate)
			}
			b.ReportMetric(float64(time.Since(start)/times)/float64(max(own, 1)), "x-decode-to-any")
		})
	}
}

// BenchmarkCompare is the whole way with a report.
func BenchmarkCompare(b *testing.B) {
	legacy, reordered, _ := answers()
	rules := ruleSet(b, "/server_time clock 2s\n/units unordered_by id entity unit/{id}\n/units/*/stock within 0.01")
	b.ReportAllocs()
	for b.Loop() {
		if r, err := CompareJSON(legacy, reordered, rules, Options{}); err != nil || r.Total != 0 {
			b.Fatal(r, err)
		}
	}
}

// BenchmarkRow is one pair of rows, as a sweep has millions.
func BenchmarkRow(b *testing.B) {
	rules := ruleSet(b, "\"\" entity unit/{id}\nstock within 0.01")
	row := func(stock float64) Value {
		v, err := FromRow([]Column{{"id", int64(42)}, {"match_id", int64(7)}, {"province", int64(12)}, {"hp", int64(97)}, {"stock", stock}})
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	legacy, equal, near := row(1.5), row(1.5), row(1.505)
	b.Run("convert", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			row(1.5)
		}
	})
	b.Run("equal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !legacy.Equal(equal) {
				b.Fatal()
			}
		}
	})
	for name, candidate := range map[string]Value{"report": equal, "report, tolerated": near} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := Compare(legacy, candidate, rules, Options{}); r.Total != 0 {
					b.Fatal()
				}
			}
		})
	}
}

func TestEqualBytesAllocateNothing(t *testing.T) {
	legacy, reordered, formatted := answers()
	same := append([]byte{}, legacy...)
	if n := testing.AllocsPerRun(100, func() { EqualJSON(legacy, same, nil) }); n != 0 {
		t.Errorf("equal bytes: %v allocations", n)
	}
	for name, b := range map[string][]byte{"reordered": reordered, "formatted": formatted} {
		if v := EqualJSON(legacy, b, nil); v != Equal {
			t.Errorf("%s: %s", name, v)
		}
	}
}
