package game_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every habit of the README names the test that shows it.
func TestReadmeNamesTestsThatExist(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(text)
	}
	_, habits, found := strings.Cut(string(readme), "| habit | shown by |")
	if !found {
		t.Fatal("no table of habits")
	}
	rows := strings.Split(strings.TrimSpace(habits), "\n")[1:]
	test := regexp.MustCompile("\\| `(Test\\w+)` \\|$")
	for _, row := range rows {
		name := test.FindStringSubmatch(row)
		if name == nil {
			t.Errorf("a habit without its test: %s", row)
		} else if !strings.Contains(sources.String(), "\nfunc "+name[1]+"(") {
			t.Errorf("there is no %s", name[1])
		}
	}
	if len(rows) < 15 {
		t.Errorf("only %d habits", len(rows))
	}
}
