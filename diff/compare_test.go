package diff

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func decode(t testing.TB, text string) Value {
	t.Helper()
	v, err := Decode([]byte(text))
	if err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return v
}

// ruleSet reads rules in their one-line form, separated by line breaks.
func ruleSet(t testing.TB, text string) *Rules {
	t.Helper()
	var rules []Rule
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		r, err := ParseRule(line)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	set, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name, rules       string
		legacy, candidate string
		want              []string // differences in one line each
		used              []string // kind×count
		compared          int
	}{
		{name: "members in any order", legacy: `{"a":1,"b":2}`, candidate: `{"b":2.0,"a":1e0}`, compared: 2},
		{name: "numbers beyond a float", legacy: `9007199254740993`, candidate: `9007199254740992`,
			want: []string{"value (document): legacy 9007199254740993, candidate 9007199254740992"}, compared: 1},
		{name: "null is not absent", legacy: `{"a":null}`, candidate: `{}`,
			want: []string{"missing /a: legacy null, candidate (missing) (loose null_missing would take it)"}, compared: 1},
		{name: "extra subtree counts its leaves", legacy: `{"a":1}`, candidate: `{"a":1,"b":[1,2,{}]}`,
			want: []string{`extra /b: legacy (missing), candidate [1,2,{}]`}, compared: 4},
		{name: "string is not a number", legacy: `["1"]`, candidate: `[1]`,
			want: []string{`type /0: legacy "1", candidate 1 (loose numeric_string would take it)`}, compared: 1},
		{name: "permuted list", legacy: `{"l":[1,2,3]}`, candidate: `{"l":[3,1,2]}`,
			want: []string{`order /l: legacy [1,2,3], candidate [3,1,2] (unordered would take it)`}, compared: 3},
		{name: "one element inserted", legacy: `[1,2,3]`, candidate: `[1,9,2,3]`,
			want: []string{`extra /1: legacy (missing), candidate 9`}, compared: 4},
		{name: "one element deleted", legacy: `[1,2,3]`, candidate: `[1,3]`,
			want: []string{`missing /1: legacy 2, candidate (missing)`}, compared: 3},
		{name: "one element deleted among noise", rules: `/* within 1`, legacy: `[10,20,30]`, candidate: `[11,30.5]`,
			want: []string{`missing /1: legacy 20, candidate (missing)`}, used: []string{"within×2"}, compared: 3},

		{name: "ignore mutes", rules: `/debug ignore why noise`, legacy: `{"a":1,"debug":{"x":1,"y":2}}`, candidate: `{"a":1}`,
			used: []string{"ignore×1"}, compared: 1},
		{name: "within absolute", rules: `/s within 0.01`, legacy: `{"s":1.10}`, candidate: `{"s":1.11}`,
			used: []string{"within×1"}, compared: 1},
		{name: "within exceeded", rules: `/s within 0.01`, legacy: `{"s":1.0}`, candidate: `{"s":1.31}`,
			want: []string{`value /s: legacy 1.0, candidate 1.31 (within 0.01 exceeded by 0.3)`}, compared: 1},
		{name: "within exactly, where floats err", rules: `/s within 0.1`, legacy: `{"s":0.3}`, candidate: `{"s":0.2}`,
			used: []string{"within×1"}, compared: 1},
		{name: "within relative", rules: `/s within 1%`, legacy: `{"s":1000}`, candidate: `{"s":1010}`,
			used: []string{"within×1"}, compared: 1},
		{name: "within on decimals of a database", rules: `stock within 0.01`, legacy: `{"stock":"12.500"}`, candidate: `{"stock":"12.505"}`,
			used: []string{"within×1"}, compared: 1},
		{name: "within needs looseness between kinds", rules: `stock within 0.01`, legacy: `{"stock":"12.5"}`, candidate: `{"stock":12.505}`,
			want: []string{`type /stock: legacy "12.5", candidate 12.505`}, compared: 1},
		{name: "within an exponent out of reach", rules: `/s within 1`, legacy: `{"s":1e999999}`, candidate: `{"s":1}`,
			want: []string{`value /s: legacy 1e999999, candidate 1 (within 1 does not reach)`}, compared: 1},

		{name: "clock, every notation", rules: `/t/* clock 2s`,
			legacy:    `{"t":[1700000000, 1700000000500, "2023-11-14 22:13:20", "1700000000", "2023-11-14T23:13:20+01:00"]}`,
			candidate: `{"t":["2023-11-14T22:13:21Z", "2023-11-14 22:13:20", 1700000002, 1700000000.5, "2023-11-14 22:13:20.25"]}`,
			used:      []string{"clock×5"}, compared: 5},
		{name: "clock shows a wrong zone", rules: `/t clock 2s`, legacy: `{"t":"2023-11-14 22:13:20"}`, candidate: `{"t":"2023-11-14 23:13:20"}`,
			want:     []string{`value /t: legacy "2023-11-14 22:13:20", candidate "2023-11-14 23:13:20" (clock 2s exceeded by 59m58s)`},
			compared: 1},
		{name: "zero date is no instant", rules: `/t clock 2s`, legacy: `{"t":"0000-00-00 00:00:00"}`, candidate: `{"t":0}`,
			want: []string{`type /t: legacy "0000-00-00 00:00:00", candidate 0 (clock: not an instant)`}, compared: 1},

		{name: "unordered_by", rules: "/units unordered_by id entity unit/{id}",
			legacy: `{"units":[{"id":1,"hp":5},{"id":2,"hp":6},{"id":3,"hp":7}]}`, candidate: `{"units":[{"id":3,"hp":7},{"hp":9,"id":2},{"id":4,"hp":1}]}`,
			want: []string{
				`missing /units/id=1: legacy {"id":1,"hp":5}, candidate (missing) (unit/1)`,
				`value /units/id=2/hp: legacy 6, candidate 9 (unit/2)`,
				`extra /units/id=4: legacy (missing), candidate {"id":4,"hp":1} (unit/4)`,
			}, used: []string{"unordered_by×1"}, compared: 8},
		{name: "unordered_by finds string keys where numbers may be strings", rules: "/ loose none\n/** loose php\n\"\" unordered_by id",
			legacy: `[{"id":"7"},{"id":"8"}]`, candidate: `[{"id":8},{"id":7}]`,
			used: []string{"numeric_string×2", "unordered_by×1"}, compared: 2},
		{name: "unordered_by two keys", rules: `"" unordered_by a,b`, legacy: `[{"a":1,"b":1,"v":1},{"a":1,"b":2,"v":2}]`, candidate: `[{"a":1,"b":2,"v":2},{"a":1,"b":1,"v":3}]`,
			want: []string{`value /a=1,b=1/v: legacy 1, candidate 3`}, used: []string{"unordered_by×1"}, compared: 6},
		{name: "duplicates of a key", rules: `"" unordered_by id`, legacy: `[{"id":1,"v":1},{"id":1,"v":2}]`, candidate: `[{"id":1,"v":2},{"id":1,"v":3}]`,
			want: []string{`value /id=1/v: legacy 1, candidate 3`}, used: []string{"unordered_by×1"}, compared: 4},
		{name: "elements without the key", rules: `"" unordered_by id`, legacy: `[{"v":1},3,{"id":1}]`, candidate: `[{"id":1},3,{"v":1}]`,
			used: []string{"unordered_by×1"}, compared: 3},
		{name: "unordered", rules: `"" unordered`, legacy: `[1,2,2,3]`, candidate: `[3,2,1,1]`,
			want: []string{`missing /2: legacy 2, candidate (missing)`, `extra /3: legacy (missing), candidate 1`},
			used: []string{"unordered×1"}, compared: 5},
		{name: "unordered with noise inside", rules: "\"\" unordered\n/*/t clock 5s", legacy: `[{"n":1,"t":100},{"n":2,"t":200}]`, candidate: `[{"n":2,"t":201},{"n":1,"t":101}]`,
			used: []string{"unordered×1", "clock×2"}, compared: 4},

		{name: "opaque", rules: `/**/token opaque`, legacy: `[{"token":"a"},{"token":"b"},{"token":"a"}]`, candidate: `[{"token":"x"},{"token":"y"},{"token":"x"}]`,
			used: []string{"opaque×3"}, compared: 3},
		{name: "opaque stands for two", rules: `/**/token opaque`, legacy: `[{"token":"a"},{"token":"a"}]`, candidate: `[{"token":"x"},{"token":"y"}]`,
			want: []string{`value /1/token: legacy "a", candidate "y" (opaque: legacy's value stands for "x" already)`}, used: []string{"opaque×1"}, compared: 2},
		{name: "two stand for one opaque", rules: `/**/token opaque`, legacy: `[{"token":"a"},{"token":"b"}]`, candidate: `[{"token":"x"},{"token":"x"}]`,
			want: []string{`value /1/token: legacy "b", candidate "x" (opaque: the candidate's value stands for "a" already)`}, used: []string{"opaque×1"}, compared: 2},
		{name: "counter", rules: `/n counter`, legacy: `{"n":5}`, candidate: `{"n":900}`, used: []string{"counter×1"}, compared: 1},
		{name: "counter takes no word", rules: `/n counter`, legacy: `{"n":5}`, candidate: `{"n":"x"}`,
			want: []string{`type /n: legacy 5, candidate "x"`}, compared: 1},

		{name: "php", rules: `/** loose php`,
			legacy:    `{"a":"1","b":true,"c":"1","d":[],"e":null,"f":null,"g":"1.0","h":false,"i":""}`,
			candidate: `{"b":1,"a":1,"c":true,"d":{},"e":"","g":1,"h":"0","i":false}`,
			used:      []string{"bool_number×4", "empty_container×1", "null_empty×1", "null_missing×1", "numeric_string×2"}, compared: 9},
		{name: "php does not take all", rules: `/** loose php`, legacy: `["007",0,"a",[]]`, candidate: `[7,null,0,[0]]`,
			want: []string{
				`type /0: legacy "007", candidate 7`, `type /1: legacy 0, candidate null`,
				`type /2: legacy "a", candidate 0`, `extra /3/0: legacy (missing), candidate 0`,
			}, compared: 4},
		{name: "looseness covers what is below, until another", rules: "/a loose php\n/a/strict loose none",
			legacy: `{"a":{"x":"1","strict":{"y":"1"}},"b":"1"}`, candidate: `{"a":{"x":1,"strict":{"y":1}},"b":1}`,
			want: []string{
				`type /a/strict/y: legacy "1", candidate 1 (loose numeric_string would take it)`,
				`type /b: legacy "1", candidate 1 (loose numeric_string would take it)`,
			}, used: []string{"numeric_string×1"}, compared: 3},
		{name: "first rule of a kind decides", rules: "/units/*/s within 5\n/**/s within 1", legacy: `{"s":1,"units":[{"s":1}]}`, candidate: `{"s":3,"units":[{"s":6}]}`,
			want: []string{`value /s: legacy 1, candidate 3 (within 1 exceeded by 1)`}, used: []string{"within×1"}, compared: 2},
		{name: "entities by the name of the member", rules: "/units/* entity unit/{@}", legacy: `{"units":{"42":{"hp":1}}}`, candidate: `{"units":{"42":{"hp":2}}}`,
			want: []string{`value /units/42/hp: legacy 1, candidate 2 (unit/42)`}, compared: 1},
		{name: "different strings that are no UTF-8", legacy: "[\"\xe9\"]", candidate: "[\"\xe8\"]",
			want: []string{`value /0: legacy "\xe9", candidate "\xe8"`}, compared: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules := ruleSet(t, tt.rules)
			r := Compare(decode(t, tt.legacy), decode(t, tt.candidate), rules, Options{})
			var got, used []string
			for _, d := range r.Differences {
				got = append(got, d.String())
			}
			for _, u := range r.Used {
				used = append(used, u.Kind+"×"+string(rune('0'+u.Count)))
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("differences (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.used, used); d != "" {
				t.Errorf("used (-want +got):\n%s", d)
			}
			if r.Compared != tt.compared {
				t.Errorf("compared %d, want %d", r.Compared, tt.compared)
			}
			verdict := EqualJSON([]byte(tt.legacy), []byte(tt.candidate), rules)
			if fast := verdict == Equal || verdict == Tolerated; fast != r.Equal() {
				t.Errorf("EqualJSON says %s, the report %s", verdict, r.Summary())
			}
			if (verdict == Equal) != (r.Equal() && len(r.Used) == 0) {
				t.Errorf("EqualJSON says %s, used are %v", verdict, r.Used)
			}
		})
	}
}

func TestUndecidedIsCountedAndTheRestIsJudged(t *testing.T) {
	legacy := decode(t, `{"server":1,"units":[{"id":1,"hp":5,"at":[1,2]},{"id":2,"hp":6},{"id":3,"hp":7}]}`)
	candidate := decode(t, `{"server":2,"units":[{"id":2,"hp":9},{"id":1,"hp":4,"at":[1,2]},{"id":4,"hp":1}]}`)
	rules := ruleSet(t, "/units unordered_by id entity unit/{id}")
	changed := map[string]bool{"unit/1": true, "unit/4": true}
	r := Compare(legacy, candidate, rules, Options{Undecided: func(entity string, path Path) bool {
		return changed[entity] || path == "/server"
	}})
	want := []string{
		`value /units/id=2/hp: legacy 6, candidate 9 (unit/2)`,
		`missing /units/id=3: legacy {"id":3,"hp":7}, candidate (missing) (unit/3)`,
	}
	var got []string
	for _, d := range r.Differences {
		got = append(got, d.String())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// unit/1 has 4 leaves, unit/4 has 2, and /server.
	if r.Undecided != 7 || r.Compared != 4 {
		t.Errorf("undecided %d, compared %d; want 7 and 4", r.Undecided, r.Compared)
	}
}

func TestUndecidedAsksForBothEntitiesThatMeetByIndex(t *testing.T) {
	rules := ruleSet(t, "/* entity unit/{id}")
	r := Compare(decode(t, `[{"id":1}]`), decode(t, `[{"id":2}]`), rules, Options{Undecided: func(entity string, _ Path) bool {
		return entity == "unit/2"
	}})
	if r.Total != 0 || r.Undecided != 1 {
		t.Error(r.Summary())
	}
}

func TestSessionRemembers(t *testing.T) {
	rules := ruleSet(t, "/token opaque\n/ticks counter")
	s := NewSession()
	for _, tt := range []struct{ legacy, candidate, want string }{
		{`{"token":"a","ticks":5}`, `{"token":"x","ticks":9}`, ""},
		{`{"token":"a","ticks":5}`, `{"token":"x","ticks":10}`, ""},
		{`{"token":"b","ticks":4}`, `{"token":"y","ticks":10}`, "counter: legacy went down from 5"},
		{`{"token":"b","ticks":9}`, `{"token":"y","ticks":8}`, "counter: the candidate went down from 10"},
		{`{"token":"a","ticks":9}`, `{"token":"a","ticks":8}`, `opaque: legacy's value stands for "x" already`},
	} {
		r := Compare(decode(t, tt.legacy), decode(t, tt.candidate), rules, Options{Session: s})
		near := ""
		if r.Total > 0 {
			near = r.Differences[0].Near
		}
		if near != tt.want {
			t.Errorf("%s %s: near %q, want %q", tt.legacy, tt.candidate, near, tt.want)
		}
	}
}

func TestReportCountsWhatItDoesNotKeep(t *testing.T) {
	var a, b []string
	for range 2500 {
		a, b = append(a, "1"), append(b, "2")
	}
	r := Compare(decode(t, "["+strings.Join(a, ",")+"]"), decode(t, "["+strings.Join(b, ",")+"]"), nil, Options{Keep: 10})
	if r.Total != 2500 || len(r.Differences) != 10 || r.Dropped() != 2490 || r.Groups["value /*"] != 2500 {
		t.Errorf("%s, groups %v", r.Summary(), r.Groups)
	}
}

func TestNotesTellOfRepeatedNamesAndKeys(t *testing.T) {
	rules := ruleSet(t, `"" unordered_by id`)
	r := Compare(decode(t, `[{"id":1},{"id":1},{"x":1,"x":2}]`), decode(t, `[{"id":1},{"id":1},{"x":2}]`), rules, Options{})
	var got []string
	for _, n := range r.Notes {
		got = append(got, string(n.Path)+": "+n.Text)
	}
	want := []string{
		": legacy has 2 elements with id=1",
		": legacy has 1 element without the key id, matched whole",
		": the candidate has 2 elements with id=1",
		": the candidate has 1 element without the key id, matched whole",
		"/2: legacy names a member twice; its last value counts",
	}
	if d := cmp.Diff(want, got); d != "" || r.Total != 0 {
		t.Error(r.Summary(), d)
	}
}

func TestGroupsForgetWhatVaries(t *testing.T) {
	legacy := decode(t, `{"by":{"42":1,"0f8fad5b-d9cb-469f-a165-70867728950e":1,"face":1,"a/b":1},"l":[[1]]}`)
	candidate := decode(t, `{"by":{"42":2,"0f8fad5b-d9cb-469f-a165-70867728950e":2,"face":2,"a/b":"1"},"l":[[2]]}`)
	r := Compare(legacy, candidate, nil, Options{})
	want := []string{"value /by/*", "type /by/a~1b", "value /by/face", "value /l/*/*"}
	if d := cmp.Diff(want, r.GroupKeys()); d != "" {
		t.Error(d)
	}
}

func TestManyUnlikeElementsTakeNoQuadraticTime(t *testing.T) {
	var a, b strings.Builder
	const n = 50_000
	for i := range n {
		a.WriteString("," + strconv.Itoa(i))
		b.WriteString("," + strconv.Itoa(-1-i))
	}
	r := Compare(decode(t, "["+a.String()[1:]+"]"), decode(t, "["+b.String()[1:]+"]"), ruleSet(t, `"" unordered`), Options{})
	if r.Total != 2*n || r.NotesTotal != 0 {
		t.Error(r.Summary())
	}
}

func TestMatchingIsBoundedAndSaysSo(t *testing.T) {
	var a, b strings.Builder
	for range 1500 {
		a.WriteString(`,{"v":1,"w":1}`)
		b.WriteString(`,{"v":1,"w":9}`)
	}
	rules := ruleSet(t, "\"\" unordered\n/*/v within 0.1")
	r := Compare(decode(t, "["+a.String()[1:]+"]"), decode(t, "["+b.String()[1:]+"]"), rules, Options{})
	if r.Total != 3000 || r.NotesTotal != 1 {
		t.Errorf("%s, notes %v", r.Summary(), r.Notes)
	}
}

// A candidate that is asked seconds later has a later clock and a lower countdown; that is not a difference, and no more
// than that is.
func TestElapsedTimeIsNoDifference(t *testing.T) {
	rules, err := Compile([]Rule{{At: "/now", Clock: 2 * time.Second}, {At: "/left", Countdown: 2 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		legacy, candidate string
		elapsed           time.Duration
		differs           int
	}{
		{`{"now":1700000000,"left":30}`, `{"now":1700000010,"left":20}`, 10 * time.Second, 0},
		{`{"now":1700000000,"left":3}`, `{"now":1700000010,"left":0}`, 10 * time.Second, 0},
		{`{"now":1700000000,"left":30}`, `{"now":1700000000,"left":30}`, 10 * time.Second, 0}, // a clock of its own may stand: it is within Δ
		{`{"now":1700000000,"left":30}`, `{"now":1700000010,"left":20}`, 0, 2},
		{`{"now":1700000000,"left":30}`, `{"now":1700000020,"left":10}`, 10 * time.Second, 2},
		{`{"now":1700000000,"left":30}`, `{"now":1700000000,"left":"x"}`, 0, 1},
	} {
		r, err := CompareJSON([]byte(c.legacy), []byte(c.candidate), rules, Options{Elapsed: c.elapsed})
		if err != nil || r.Total != c.differs {
			t.Errorf("%s, %s after %s: %d differences, %v; want %d", c.legacy, c.candidate, c.elapsed, r.Total, err, c.differs)
		}
	}
}
