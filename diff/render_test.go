package diff

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func example(t testing.TB) Report {
	rules := ruleSet(t, "/server_time clock 2s\n/units unordered_by id entity unit/{id}\n/units/*/stock within 0.01 why \"float column\"")
	return Compare(
		decode(t, `{"server_time":1700000000,"motd":"caf\u0000\u202e\u001b[2J","units":[{"id":7,"hp":97,"stock":1.5},{"id":8,"hp":50,"stock":1}],"tags":["a","b"]}`),
		decode(t, `{"server_time":"2023-11-14 22:13:21","motd":"cafe","units":[{"id":9,"hp":1,"stock":0},{"id":7,"hp":"96","stock":1.9}],"tags":["b","a"]}`),
		rules, Options{})
}

func TestText(t *testing.T) {
	r := example(t)
	want := `6 differences in 13 values compared, 1 tolerated
                     legacy                      candidate
~ /motd              "caf\x00\u202e\x1b[2J"      "cafe"
! /units/id=7/hp     97                          "96"
    unit/7
~ /units/id=7/stock  1.5                         1.9
    unit/7; within 0.01 exceeded by 0.39
- /units/id=8        {"id":8,"hp":50,"stock":1}  (missing)
    unit/8
+ /units/id=9        (missing)                   {"id":9,"hp":1,"stock":0}
    unit/9
% /tags              ["a","b"]                   ["b","a"]
    unordered would take it
tolerated 1×: /server_time clock 2s
`
	got := r.Text(96)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\n%s", d, got)
	}
	for _, columns := range []int{0, 1, 20, 40, 59, 60, 72, 96, 200} {
		for line := range strings.Lines(r.Text(columns)) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "tolerated ") || strings.Contains(line, "compared") {
				continue
			}
			if w := width(line); w > max(columns, 20) {
				t.Errorf("%d columns wide, not %d: %s", w, columns, line)
			}
		}
	}
}

func TestTextShowsWhereLongValuesDiffer(t *testing.T) {
	long := strings.Repeat("日本語 ", 40)
	r := Compare(NewString(long+"legacy's end"), NewString(long+"another end"), nil, Options{})
	text := r.Text(80)
	if !strings.Contains(text, "legacy's end") || !strings.Contains(text, "another end") || !strings.Contains(text, "…") {
		t.Error(text)
	}
}

func TestShortMarksWhatItCuts(t *testing.T) {
	for _, tt := range []struct {
		v    Value
		want string
	}{
		{NewString("abc"), `"abc"`},
		{NewString(strings.Repeat("é", 100)), `"ééééééééé… (200 bytes)`},
		{decode(t, `[1,2,3,4,5,6,7]`), `[1,2,3,4,5… (7 elements)`},
		{decode(t, `{"name":"somebody"}`), `{"name":"s… (1 member)`},
		{Value{}, "(missing)"},
	} {
		if got := tt.v.Short(10); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

func TestReportAsJSON(t *testing.T) {
	r := example(t)
	r.Differences = append(r.Differences[3:4:4], Difference{Path: "/x", Class: ClassExtra, Candidate: NewString(strings.Repeat("x", 5000))})
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Total, Compared, Dropped int
		Groups                   map[string]int
		Used                     []Use
		Differences              []jsonDifference
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	var back Difference
	if err := json.Unmarshal(mustJSON(t, r.Differences[0]), &back); err != nil || back.String() != r.Differences[0].String() || back.Group != "missing /units/*" {
		t.Errorf("%v, %v", back, err)
	}
	first, second := got.Differences[0], got.Differences[1]
	if first.Path != "/units/id=8" || first.Candidate != nil || first.Legacy.String() != `{"id":8,"hp":50,"stock":1}` || first.Entity != "unit/8" {
		t.Errorf("%s", data)
	}
	if second.Legacy != nil || len(second.Shortened) != 1 || !strings.HasSuffix(second.Candidate.Text(), "… (5000 bytes)") {
		t.Errorf("%s", data)
	}
	if got.Total != 6 || got.Compared != 13 || got.Dropped != 4 || got.Groups["value /units/*/stock"] != 1 || got.Used[0].Kind != "clock" {
		t.Errorf("%s", data)
	}
}

func mustJSON(t testing.TB, x any) []byte {
	t.Helper()
	data, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
