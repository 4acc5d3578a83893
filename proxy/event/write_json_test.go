package event

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func sampleWrite() Write {
	return Write{V: WriteVersion, ID: WriteID{"a", 1, 2}, Ship: 3, Address: Address{"units", "match/7", true}, Intent: sampleIntent(), Result: sampleResult()}
}

// byTags is what encoding/json makes of the struct, in version 1, in which the body is as the tags say.
func byTags(t testing.TB, w Write) []byte {
	t.Helper()
	w.V = 1
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(plainWrite(w)); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// fill sets everything below v to something that is not zero.
func fill(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x&<" + v.Type().Name())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-7)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Uint8:
		v.SetUint('y')
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, k := range []string{"b", "a", ""} {
			v.SetMapIndex(reflect.ValueOf(k), reflect.ValueOf("v"+k))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1700000000, 120000000).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("%s: fill does not know it", v.Type())
	}
}

// plainMark is without its methods.
type plainMark ReplicaMark

// A field that is added to a mark and forgotten in AppendJSON, or has another rule there, is seen here.
func TestMarkFormFollowsTheTags(t *testing.T) {
	check := func(what string, m *ReplicaMark) {
		t.Helper()
		if got, want := m.AppendJSON(nil), Encode((*plainMark)(m)); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	var m ReplicaMark
	check("nothing set", &m)
	m.InFlight = []InFlight{{}}
	check("nothing known of a write", &m)
	fill(t, reflect.ValueOf(&m).Elem())
	check("all set", &m)
}

// A field that is added to a struct and forgotten in AppendJSON, or has another rule there, is seen here.
func TestWriteFormFollowsTheTags(t *testing.T) {
	check := func(what string, w *Write) {
		t.Helper()
		w.V = 1
		if got, want := w.AppendJSON(nil), byTags(t, *w); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	var all Write
	check("nothing set", &all)
	fill(t, reflect.ValueOf(&all).Elem())
	check("all set", &all)
	all.V, all.ID.Replica = WriteVersion, "a" // ids are read strictly
	got, err := DecodeWrite(all.AppendJSON(nil))
	if err != nil || !cmp.Equal(&all, got) {
		t.Error(err, cmp.Diff(&all, got))
	}
	for _, part := range []func(*Write) reflect.Value{
		func(w *Write) reflect.Value { return reflect.ValueOf(w).Elem() },
		func(w *Write) reflect.Value { return reflect.ValueOf(&w.Address).Elem() },
		func(w *Write) reflect.Value { return reflect.ValueOf(&w.Intent).Elem() },
		func(w *Write) reflect.Value { return reflect.ValueOf(&w.Result).Elem() },
	} {
		for i := range part(&all).NumField() {
			var w Write
			f := part(&w)
			fill(t, f.Field(i))
			check("only "+f.Type().Field(i).Name, &w)
			if f.Field(i).Kind() == reflect.Slice {
				f.Field(i).SetLen(0)
				check("empty "+f.Type().Field(i).Name, &w)
			}
		}
	}
}

func TestEntryFormFollowsTheTags(t *testing.T) {
	check := func(what string, e *Entry) {
		t.Helper()
		for i := range e.Writes {
			e.Writes[i].Write.V = WriteVersion
		}
		got := e.AppendJSON(nil)
		if want := Encode((*plainEntry)(e)); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	var all Entry
	check("nothing set", &all)
	fill(t, reflect.ValueOf(&all).Elem())
	check("all set", &all)
	parts := func(e *Entry) []reflect.Value {
		e.Writes = make([]SettledWrite, 1)
		return []reflect.Value{reflect.ValueOf(e).Elem(), reflect.ValueOf(&e.Writes[0]).Elem()}
	}
	for p, whole := range parts(&all) {
		for i := range whole.NumField() {
			var e Entry
			f := parts(&e)[p]
			if f.Type().Field(i).Name != "Writes" {
				fill(t, f.Field(i))
			}
			check("only "+f.Type().Field(i).Name, &e)
		}
	}
	var e Entry
	fill(t, reflect.ValueOf(&e).Elem())
	e.V = EntryVersion
	for i := range e.Writes { // ids are read strictly
		w := &e.Writes[i]
		w.Write.V, w.Write.ID.Replica, w.Overlaps[0].Replica, w.Overlaps[1].Replica = i+1, "a", "a", "a"
	}
	for i := range e.Changes {
		c := &e.Changes[i]
		c.Write.Replica, c.Candidates[0].Replica, c.Candidates[1].Replica = "a", "a", "a"
	}
	got, err := DecodeEntry(Encode(&e))
	if err != nil || !cmp.Equal(&e, got) {
		t.Error(err, cmp.Diff(&e, got))
	}
}

func TestBodiesCanBeRead(t *testing.T) {
	long := strings.Repeat(`"`, longText)
	for name, c := range map[string]struct{ body, want string }{
		"form":              {"unit=42&to=9&note=%C3%BC", `"body":"unit=42&to=9&note=%C3%BC"`},
		"json":              {"{\"name\":\"Zoë\",\n\t\"to\":9}", `"body":"{\"name\":\"Zoë\",\n\t\"to\":9}"`},
		"line separators":   {"a\u2028b\u2029", "\"body\":\"a\u2028b\u2029\""},
		"control":           {"\x01\x1f\x7f\b\f", "\"body\":\"\\u0001\\u001f\x7f\\u0008\\u000c\""},
		"escapes as text":   {`\ud800 \u0000 \\`, `"body":"\\ud800 \\u0000 \\\\"`},
		"NUL":               {"a\x00b", `"body_base64":"YQBi"`},
		"no UTF-8":          {"a=\xff", `"body_base64":"YT3/"`},
		"surrogate":         {"\xed\xa0\x80", `"body_base64":"7aCA"`},
		"overlong":          {"\xc0\xaf", `"body_base64":"wK8="`},
		"cut in a rune":     {"a\xc3", `"body_base64":"YcM="`},
		"NUL behind text":   {"unit=42&\x00", `"body_base64":"dW5pdD00MiYA"`},
		"\\xff behind text": {"unit=42&\xff", `"body_base64":"dW5pdD00Mib/"`},
		"long, quotes":      {long, `"body_base64":"IiIi`},
		"longer, readable":  {strings.Repeat("x", 2*longText), `"body":"xxx`},
	} {
		w := Write{V: WriteVersion, Intent: Intent{Body: []byte(c.body)}}
		b := w.AppendJSON(nil)
		if !bytes.Contains(b, []byte(c.want)) {
			t.Errorf("%s: %.300s; want %s", name, b, c.want)
		}
		got, err := DecodeWrite(b)
		if err != nil || string(got.Intent.Body) != c.body {
			t.Errorf("%s: %v, %.100q", name, err, got.Intent.Body)
		}
	}
}

// 32 bytes are looked at together, and then eight, and then what is left: each byte must be found wherever it stands in a
// text of any length, alone and beside others.
func TestEveryByteInEveryPlace(t *testing.T) {
	for _, size := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 31, 32, 33, 35, 41} {
		for at := range size {
			for c := range 256 {
				everyByte(t, size, at, byte(c))
			}
		}
	}
}

func everyByte(t *testing.T, size, at int, c byte) {
	for _, beside := range []byte{'x', '\x7f', c, c + 1} {
		b := bytes.Repeat([]byte("x"), size)
		b[at] = c
		if at > 0 {
			b[at-1] = beside
		}
		form := appendText(nil, string(b))
		var got, want string
		byTags, _ := json.Marshal(string(b))
		if err := json.Unmarshal(byTags, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(form, &got); err != nil || got != want || !utf8.Valid(form) {
			t.Fatalf("%q: %v %s", b, err, form)
		}
	}
}

// Records of the version before, as its build wrote them, and of this one. Neither line may ever change.
func TestWritesOfEveryVersionAreRead(t *testing.T) {
	const (
		v1 = `{"v":1,"id":"a.1.2","ship":3,"migration":"units","key":"match/7","primary":true,"intent":{"uuid":"0190","route":"move","addresses":[{"migration":"units","key":"match/7","primary":true}],"method":"POST","target":"/x?a=1\u0026b=2","body":"dW5pdD00MiZ0bz05","body_length":12,"at":"2023-11-14T22:13:20.123456789Z"},"result":{"outcome":"applied","forwarded":"2023-11-14T22:13:20.2Z","end":"2023-11-14T22:13:20.3Z"}}`
		v2 = `{"v":2,"id":"a.1.2","ship":3,"migration":"units","key":"match/7","primary":true,"intent":{"uuid":"0190","route":"move","addresses":[{"migration":"units","key":"match/7","primary":true}],"method":"POST","target":"/x?a=1&b=2","body":"unit=42&to=9","body_length":12,"at":"2023-11-14T22:13:20.123456789Z"},"result":{"outcome":"applied","forwarded":"2023-11-14T22:13:20.2Z","end":"2023-11-14T22:13:20.3Z"}}`
	)
	at := func(ns int64) time.Time { return time.Unix(1700000000, ns).UTC() }
	home := Address{"units", "match/7", true}
	for v, record := range []string{1: v1, 2: v2} {
		if v == 0 {
			continue
		}
		want := &Write{V: v, ID: WriteID{"a", 1, 2}, Ship: 3, Address: home,
			Intent: Intent{UUID: "0190", Route: "move", Addresses: []Address{home}, Method: "POST", Target: "/x?a=1&b=2", Body: []byte("unit=42&to=9"),
				BodyLength: 12, At: at(123456789)},
			Result: Result{Outcome: Applied, Forwarded: at(200000000), End: at(300000000)}}
		got, err := DecodeWrite([]byte(record))
		if err != nil || !cmp.Equal(want, got) {
			t.Errorf("version %d: %v %s", v, err, cmp.Diff(want, got))
		}
		// In an entry it keeps its version, and settle hands it on as it came.
		e, err := DecodeEntry([]byte(`{"v":` + record[5:6] + `,"from":"0/1","to":"0/1","writes":[{"write":` + record + `,"verdict":"applied"}],"clock":"2023-11-14T22:13:20Z"}`))
		if err != nil || !cmp.Equal(*want, e.Writes[0].Write) {
			t.Fatalf("version %d in an entry: %v %s", v, err, cmp.Diff(want, e))
		}
		again, err := DecodeEntry(Encode(e))
		if err != nil || !cmp.Equal(e, again) {
			t.Errorf("version %d in an entry: %v %s", v, err, cmp.Diff(e, again))
		}
	}
	w, err := DecodeWrite([]byte(v2))
	if err != nil || string(w.AppendJSON(nil)) != v2 || string(Encode(w)) != v2 {
		t.Errorf("%v\n got %s\nwant %s", err, w.AppendJSON(nil), v2)
	}
	if _, err := DecodeWrite([]byte(`{"v":1,"intent":{"body":"no base64"}}`)); err == nil || !strings.Contains(err.Error(), "write record") {
		t.Errorf("a body of version 1 that is no base64: %v", err)
	}
}

func FuzzWriteForm(f *testing.F) {
	f.Add([]byte("unit=42&to=9"), "match/7", int64(1700000000123456789))
	f.Add([]byte("{\"a\":\"\u2028\u00fc\xed\xa0\x80\\ud800\x00\x1f\"}"), "a\"\\\x7f\xff\xfe", int64(-1))
	f.Add([]byte("0123456\"01234567\\0123456\n0123456\x1f0123456\x80"), "01234567\u2028\U0010ffff", int64(0))
	f.Fuzz(func(t *testing.T, body []byte, s string, n int64) {
		w := sampleWrite()
		w.Migration, w.Key, w.Primary = Migration(s), OrderingKey(s), n%2 == 0
		w.Intent.Target, w.Intent.Player, w.Intent.Params = s, s, map[string]string{s: s, "k": s}
		w.Intent.Body, w.Intent.BodyLength, w.Intent.At = body, n, time.Unix(0, n).UTC()
		w.Result.Status, w.Result.Location, w.Result.Reason = int(n), s, s
		b := w.AppendJSON(nil)
		if !json.Valid(b) || !utf8.Valid(b) {
			t.Fatalf("no JSON: %q", b)
		}
		got, err := DecodeWrite(b)
		if err != nil || !bytes.Equal(got.Intent.Body, body) {
			t.Fatalf("%v: body %q, was %q", err, got.Intent.Body, body)
		}
		var want Write // what encoding/json says of all else
		if err := json.Unmarshal(byTags(t, w), (*plainWrite)(&want)); err != nil {
			t.Fatal(err)
		}
		want.V = WriteVersion
		if len(body) == 0 {
			want.Intent.Body, got.Intent.Body = nil, nil
		}
		if !cmp.Equal(&want, got) {
			t.Fatal(cmp.Diff(&want, got))
		}
		w.V = 1
		if got, err := DecodeWrite(w.AppendJSON(nil)); err != nil || !bytes.Equal(got.Intent.Body, body) {
			t.Fatalf("version 1: %v, body %q, was %q", err, got.Intent.Body, body)
		}
	})
}

// BenchmarkWriteJSON is the form of a mirrored POST: a form of 2 KiB.
func BenchmarkWriteJSON(b *testing.B) {
	w := sampleWrite()
	w.Intent.Body = []byte(strings.Repeat("unit=42&to=9&why=be+cause&", 80))[:2048]
	b.Run("append", func(b *testing.B) {
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf = w.AppendJSON(buf[:0])
		}
	})
	b.Run("tags", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = Encode((*plainWrite)(&w))
		}
	})
	text := Encode(&w)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeWrite(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	old := Encode((*plainWrite)(&w))
	b.Run("decode tags", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var x plainWrite
			if err := json.Unmarshal(old, &x); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkMark writes a mark with ten writes in flight.
func BenchmarkMark(b *testing.B) {
	m := ReplicaMark{V: MarkVersion, Replica: "proxy-1", Epoch: 1700000000, Seq: 123456, Clock: time.Now(), InFlight: make([]InFlight, 10)}
	for i := range m.InFlight {
		m.InFlight[i] = InFlight{Seq: 123400 + Seq(i), Addresses: []Address{{"units", "match/7", true}}, Start: m.Clock}
	}
	for name, form := range map[string]func() []byte{"by hand": func() []byte { return m.AppendJSON(nil) }, "by tags": func() []byte { return Encode((*plainMark)(&m)) }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				form()
			}
		})
	}
}

// BenchmarkText makes JSON strings of bodies of 2 KiB: a form needs no escape, a body in JSON one for every third byte.
func BenchmarkText(b *testing.B) {
	for _, kind := range []struct{ name, piece string }{{"form", "unit=42&to=9&"}, {"json", `{"unit":42,"to":9},`}, {"cyrillic", "юнит=42&to=9&"}} {
		body := strings.Repeat(kind.piece, 2048/len(kind.piece))
		b.Run(kind.name, func(b *testing.B) {
			var form []byte
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				form = appendText(form[:0], body)
			}
		})
	}
}
