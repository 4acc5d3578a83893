package diff

import (
	"strings"
	"testing"
)

func TestEqualJSON(t *testing.T) {
	var a, b strings.Builder // objects beyond smallObject, members reversed
	for i := range 40 {
		a.WriteString(`,"k` + strings.Repeat("x", i) + `":[` + strings.Repeat("1,", i) + `1]`)
		b.WriteString(`,"k` + strings.Repeat("x", 39-i) + `":[` + strings.Repeat("1,", 39-i) + `1]`)
	}
	large, reversed := "{"+a.String()[1:]+"}", "{"+b.String()[1:]+"}"
	rules := ruleSet(t, "/gone ignore why x\n/n loose null_missing\n/list/2 ignore why x")
	for _, tt := range []struct {
		a, b string
		want Verdict
	}{
		{`not json`, `not json`, Equal}, // the bytes are
		{`not json`, `not  json`, Invalid},
		{`{"a":"\u0041\/"}`, `{"a" : "A/"}`, Equal},
		{`{"\u0061":1,"b":2}`, `{"b":2,"a":1}`, Equal},
		{`{"b":1,"a":1}`, `{"a":1x,"b":1}`, Invalid},
		{`{"b":1,"a":1x}`, `{"a":1,"b":1}`, Invalid},
		{`{"b":1,"a":[1}}`, `{"a":[1},"b":1}`, Invalid},
		{`[1] `, `[1]]`, Invalid},
		{`{"b":1,"a":1,"a":1}`, `{"a":1,"x":9,"b":1}`, Different},
		{`{"b":1,"a":1,"x":9}`, `{"a":1,"a":1,"b":1}`, Different},
		{`{"b":1,"a":1,"a":2}`, `{"a":2,"b":1,"a":1}`, Different},
		{large, reversed, Equal},
		{large, strings.Replace(reversed, "1]", "2]", 1), Different},
		{large, strings.Replace(reversed, `"k":`, `"j":`, 1), Different},
		{`{"gone":[1,{}],"a":1}`, `{"a":1}`, Tolerated},
		{`{"a":1}`, `{"a":1,"gone":2}`, Tolerated},
		{`{"a":1}`, `{"a":1,"gone":2x}`, Invalid},
		{`{"n":null,"a":1}`, `{"a":1}`, Tolerated},
		{`{"n":0,"a":1}`, `{"a":1}`, Different},
		{`{"n":1,"a":1,"n":null}`, `{"a":1,"n":1}`, Different},
		{`{"list":[1,2,3]}`, `{"list":[1,2]}`, Tolerated},
		{`{"list":[1,2,3]}`, `{"list":[1,2,4]}`, Tolerated},
		{`{"list":[1,2]}`, `{"list":[1]}`, Different},
		{strings.Repeat("[", 200) + strings.Repeat("]", 200), strings.Repeat("[", 200) + " " + strings.Repeat("]", 200), Invalid},
	} {
		if got := EqualJSON([]byte(tt.a), []byte(tt.b), rules); got != tt.want {
			t.Errorf("%.60s and %.60s: %s, want %s", tt.a, tt.b, got, tt.want)
		}
		agree(t, []byte(tt.a), []byte(tt.b), rules)
	}
}
