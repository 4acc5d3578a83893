package house

import (
	"fmt"
	"slices"
	"strings"
)

// vocabulary are the packages whose words everybody uses.
var vocabulary = []string{"proxy/event", "proxy/capture", "proxy/stage", "proxy/expr", "proxy/kafka"}

// direction says what the packages below a directory may import of ours, outside
// of their tests. The longest directory that fits a package counts.
type direction struct {
	dir    string
	may    []string
	reason string
}

var directions = []direction{
	{"diff", nil, "pure: whoever compares two values can use it, whatever the values are about"},
	{"proxy/event", nil, "the ground of the vocabulary: everybody may import it, so it imports nobody"},
	{"proxy/capture", []string{"proxy/event"}, "vocabulary: everybody may import it, so it imports no more than the ids and keys of event"},
	{"proxy/stage", []string{"proxy/event"}, "vocabulary: migrations and ordering keys are event's words"},
	{"proxy/expr", []string{"proxy/event"}, "vocabulary: everybody may import it, so it imports no more than the ids and keys of event"},
	{"proxy/kafka", []string{"proxy/event"}, "vocabulary: builds clients for the topics that event names"},
	{"proxy", []string{"proxy"}, "the request path knows neither consumers nor a particular legacy: what it needs of them it declares as interfaces"},
	{"shadow", append([]string{"shadow", "diff"}, vocabulary...), "consumers know the proxy by its records alone; what they need of a legacy they declare as interfaces"},
	{"legacyadapter", []string{"legacyadapter", "proxy", "shadow", "diff"}, "implements what proxy and shadow declare"},
	{"cmd", []string{"cmd/internal", "proxy", "shadow", "diff", "legacyadapter"}, "wires everything, and is imported by nobody"},
	{"cmd/banyan-demo", []string{"cmd/banyan-demo", "cmd/internal", "proxy", "shadow", "diff", "legacyadapter", "testdata"}, "shows the whole on embedded and on real parts"},
	{"cmd/gameservice", []string{"cmd/gameservice", "cmd/internal", "proxy", "shadow", "diff"}, "an example of a new service: it knows nothing of a particular legacy"},
	{"testdata", []string{"cmd/internal", "proxy", "shadow", "diff", "legacyadapter", "testdata"}, "serves tests, benchmarks and the demo"},
}

// checkDirections gives the imports that go the wrong way, and packages without a row.
func checkDirections(t *tree, table []direction) []string {
	var wrong []string
	for _, f := range t.files {
		row, ok := directionOf(f.dir, table)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s: no row of the directions' table fits %s: add one with its reason", f.name, f.dir))
			continue
		}
		if f.test {
			continue
		}
		for _, i := range f.imports {
			target, own := i.own()
			if !own || target == f.dir || underAny(target, row.may) {
				continue
			}
			wrong = append(wrong, fmt.Sprintf("%s:%d: imports %s, but packages of %s may import only %s of ours: %s",
				f.name, i.line, target, row.dir, list(row.may), row.reason))
		}
	}
	return wrong
}

func directionOf(dir string, table []direction) (direction, bool) {
	var best direction
	for _, row := range table {
		if under(dir, row.dir) && len(row.dir) > len(best.dir) {
			best = row
		}
	}
	return best, best.dir != ""
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// owner says who may import a package, or use one name of it. Tests and testdata may
// always: they look at the same things from outside.
type owner struct {
	target string   // a package, ours or not, or one that lies below it
	name   string   // only this name of the package, not the package itself
	may    []string // our directories
	reason string
}

var owners = []owner{
	{"banyan/testdata", "", []string{"cmd/banyan-demo"}, "what runs servers for tests links into nothing that users run"},
	{"banyan/legacyadapter", "", []string{"legacyadapter", "cmd"}, "all that knows a particular legacy is wired in by cmd"},
	{"github.com/twmb/franz-go/pkg/kgo", "NewClient", []string{"proxy/kafka"}, "one place builds Kafka clients: TLS, SASL, hooks, limits"},
	{"golang.org/x/net", "", []string{"proxy/h2"}, "HPACK is decoded in one place, and clients are served by no other HTTP than ours"},
	{"github.com/redis/rueidis", "", []string{"shadow/readmodel", "cmd"}, "one package writes and reads Redis, so that a version never goes back"},
	{"github.com/go-sql-driver/mysql", "", []string{"legacyadapter"}, "MySQL is a particular legacy"},
	{"github.com/go-mysql-org/go-mysql", "", []string{"legacyadapter"}, "MySQL is a particular legacy"},
	{"github.com/twmb/franz-go/pkg/kfake", "", []string{"cmd/banyan-demo"}, "a double of Kafka links into nothing that users run"},
	{"github.com/alicebob/miniredis", "", []string{"cmd/banyan-demo"}, "a double of Redis links into nothing that users run"},
	{"github.com/fergusstrange/embedded-postgres", "", []string{"cmd/banyan-demo"}, "fetched databases link into nothing that users run"},
}

// checkOwners gives the uses of packages by those who do not own them.
func checkOwners(t *tree, table []owner) []string {
	var wrong []string
	for _, f := range t.files {
		if f.test || under(f.dir, "testdata") {
			continue
		}
		for _, i := range f.imports {
			for _, o := range table {
				if !under(i.path, o.target) || underAny(f.dir, o.may) {
					continue
				}
				if o.name == "" {
					wrong = append(wrong, fmt.Sprintf("%s:%d: imports %s, which only %s may: %s", f.name, i.line, i.path, list(o.may), o.reason))
					continue
				}
				for _, line := range t.uses(f, i, o.name) {
					wrong = append(wrong, fmt.Sprintf("%s:%d: uses %s.%s, which only %s may: %s", f.name, line, i.path, o.name, list(o.may), o.reason))
				}
			}
		}
	}
	return wrong
}

// product is the command that users run, and forbidden what must not be in it,
// directly or through packages of ours.
const product = "cmd/banyan"

var forbidden = []string{
	"banyan/cmd/banyan-demo",
	"banyan/testdata",
	"github.com/twmb/franz-go/pkg/kfake",
	"github.com/alicebob/miniredis",
	"github.com/fergusstrange/embedded-postgres",
	"testing",
}

// checkProduct follows the imports of the product and gives the ways to what is
// forbidden.
func checkProduct(t *tree) []string {
	_, files := t.packages()
	var wrong []string
	seen := map[string]bool{}
	var follow func(dir string, way []string)
	follow = func(dir string, way []string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		way = append(slices.Clone(way), dir)
		for _, f := range files[dir] {
			if f.test {
				continue
			}
			for _, i := range f.imports {
				if underAny(i.path, forbidden) {
					wrong = append(wrong, fmt.Sprintf("%s:%d: %s gets %s by way of %s: it is for tests and the demo", f.name, i.line, product, i.path, strings.Join(way, " -> ")))
				}
				if target, own := i.own(); own {
					follow(target, way)
				}
			}
		}
	}
	for dir := range files {
		if under(dir, product) {
			follow(dir, nil)
		}
	}
	return wrong
}
