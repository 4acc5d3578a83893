package book

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestALibraryKeepsFewBooksAndNoneThatIsUsedGoes(t *testing.T) {
	open := map[int]bool{}
	l := NewLibrary(2, func(_ context.Context, g int) (*Book, func(), error) {
		if g == 9 {
			return nil, nil, errors.New("no such topic")
		}
		open[g] = true
		return &Book{}, func() { delete(open, g) }, nil
	})
	use := func(g int) func() {
		t.Helper()
		_, release, err := l.Use(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	first := use(1)
	use(2)()
	use(3)()
	if !open[1] || open[2] || !open[3] {
		t.Fatal("the one that is used went, or none did:", open)
	}
	if _, _, err := l.Use(t.Context(), 9); err == nil {
		t.Fatal("opened")
	}
	if _, _, err := l.Use(t.Context(), 9); err == nil {
		t.Fatal("opened")
	}
	first()
	use(2)()
	use(3)()
	if got := fmt.Sprint(open); got != "map[2:true 3:true]" {
		t.Fatal(got)
	}
	l.Close()
	if len(open) != 0 {
		t.Fatal(open)
	}
	if _, _, err := l.Use(t.Context(), 1); err == nil {
		t.Fatal("used after its end")
	}
}
