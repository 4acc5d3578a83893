package diff_test

import (
	"fmt"

	"banyan/diff"
)

// Legacy and the candidate answer the same map: the clock has moved on, the
// units come in another order, one has lost a point.
func Example() {
	legacy := []byte(`{"server_time":1700000000,"units":[{"id":"7","hp":97,"stock":1.50},{"id":"8","hp":50,"stock":3}]}`)
	candidate := []byte(`{"units":[{"hp":50,"id":8,"stock":3.004},{"hp":96,"id":7,"stock":1.5}],"server_time":"2023-11-14 22:13:21"}`)

	var rules []diff.Rule
	for _, text := range []string{
		`/server_time clock 2s`,
		`/units unordered_by id loose php entity unit/{id}`,
		`/units/*/stock within 0.01 why "float column"`,
	} {
		r, err := diff.ParseRule(text)
		if err != nil {
			fmt.Println(err)
			return
		}
		rules = append(rules, r)
	}
	set, err := diff.Compile(rules)
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println(diff.EqualJSON(legacy, candidate, set))
	report, err := diff.CompareJSON(legacy, candidate, set, diff.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(report.Text(72))
	fmt.Println(report.GroupKeys())
	// Output:
	// different
	// 1 difference in 7 values compared, 5 tolerated
	//                   legacy     candidate
	// ~ /units/id=7/hp  97         96
	//     unit/7
	// tolerated 1×: /server_time clock 2s
	// tolerated 2×: /units unordered_by id loose php entity unit/{id} (numeric_string)
	// tolerated 1×: /units unordered_by id loose php entity unit/{id}
	// tolerated 1×: /units/*/stock within 0.01 why "float column"
	// [value /units/*/hp]
}
