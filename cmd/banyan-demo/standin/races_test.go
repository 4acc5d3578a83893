package standin_test

import (
	"fmt"
	"testing"
)

// rounds bounds how often a race is tried.
const rounds = 1000

// race runs things together, again and again, until lost says that the race was lost, and fails if it never is.
func race(t *testing.T, prepare func(), things []func() (answer, error), lost func([]answer) bool) {
	t.Helper()
	for round := range rounds {
		prepare()
		if lost(together(t, things)) {
			t.Logf("lost in round %d", round+1)
			return
		}
	}
	t.Errorf("not lost in %d rounds", rounds)
}

func together(t *testing.T, things []func() (answer, error)) []answer {
	t.Helper()
	answers, errs := make([]answer, len(things)), make([]error, len(things))
	start, done := make(chan struct{}), make(chan struct{})
	for i, thing := range things {
		go func() {
			<-start
			answers[i], errs[i] = thing()
			done <- struct{}{}
		}()
	}
	close(start)
	for range things {
		<-done
	}
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

// Two orders spend the same purse, both are accepted; one cost is forgotten, or the purse clamps at 0.
func TestDoubleSpend(t *testing.T) {
	w := stand(t, small)
	one, two := w.login(1), w.login(1)
	spear := func(b *browser) func() (answer, error) {
		return func() (answer, error) { return b.tryForm("unit", "recruit", "province=1&type=spear") }
	}
	var clamped, forgotten bool
	race(t,
		func() {
			w.exec("DELETE FROM units WHERE player_id = 1")
			w.purse(1, 45) // one spear is 40 gold, 30 wood and 10 iron
		},
		[]func() (answer, error){spear(one), spear(two)},
		func(a []answer) bool {
			if !done(a[0]) || !done(a[1]) {
				return false
			}
			units, gold := w.number("SELECT COUNT(*) FROM units WHERE player_id = 1"), w.number("SELECT gold FROM resources WHERE player_id = 1")
			if units != 2 || (gold != 0 && gold != 5) {
				t.Errorf("both accepted: %g units, %g gold left; want 2, and 0 (clamped) or 5 (one cost forgotten)", units, gold)
			}
			clamped, forgotten = clamped || gold == 0, forgotten || gold == 5
			return clamped && forgotten
		})
}

func TestDoubleAccept(t *testing.T) {
	w := stand(t, small)
	seller, one, two := w.login(1), w.login(2), w.login(3)
	var trade string
	accept := func(b *browser) func() (answer, error) {
		return func() (answer, error) { return b.tryForm("market", "accept", "trade="+trade) }
	}
	race(t,
		func() {
			for player := 1; player <= 3; player++ {
				w.purse(player, 100)
			}
			w.exec("DELETE FROM trades")
			seller.form("market", "offer", "give_type=gold&give_amount=30&want_type=wood&want_amount=10")
			trade = w.value("SELECT id FROM trades")
		},
		[]func() (answer, error){accept(one), accept(two)},
		func(a []answer) bool {
			if !done(a[0]) || !done(a[1]) {
				return false
			}
			if got := fmt.Sprint(w.rows("SELECT gold, wood FROM resources WHERE player_id IN (2, 3)")); got != "[map[gold:130 wood:90] map[gold:130 wood:90]]" {
				t.Errorf("both accepted, and have %s; want both to have paid and received", got)
			}
			return true
		})
}

func TestPageViewErasesDelivery(t *testing.T) {
	w := stand(t, small)
	giver := w.login(1)
	look := func(b *browser) func() (answer, error) { // player 2 is at it in two windows
		return func() (a answer, err error) {
			for range 4 {
				if a, err = b.try("GET", "index.php?page=province&id=2&match=1", "", ""); err != nil {
					break
				}
			}
			return a, err
		}
	}
	race(t,
		// Looks that change nothing write nothing, so what a look erases must be seen to change: the clock is behind.
		func() {
			w.purse(1, 100)
			w.purse(2, 100)
			w.exec("UPDATE resources SET updated_at = updated_at - 1 WHERE player_id = 2")
		},
		[]func() (answer, error){
			func() (answer, error) { return giver.tryForm("market", "give", "to=2&type=gold&amount=50") },
			look(w.login(2)), look(w.login(2)),
		},
		func(a []answer) bool {
			if !done(a[0]) {
				t.Fatalf("gift: %+v", a[0])
			}
			paid, got := w.number("SELECT gold FROM resources WHERE player_id = 1"), w.number("SELECT gold FROM resources WHERE player_id = 2")
			if paid != 50 || (got != 150 && got != 100) {
				t.Errorf("a gift of 50 leaves %g and %g", paid, got)
			}
			return got == 100
		})
}

// One browser's requests stand in a row, so the second order finds the purse empty.
func TestOneSessionIsSerial(t *testing.T) {
	w := stand(t, small)
	b := w.login(1)
	spear := func() (answer, error) { return b.tryForm("unit", "recruit", "province=1&type=spear") }
	for range 40 {
		w.exec("DELETE FROM units WHERE player_id = 1")
		w.purse(1, 45)
		a := together(t, []func() (answer, error){spear, spear})
		if done(a[0]) == done(a[1]) {
			t.Fatalf("of two orders of one session, exactly one can be paid: %s and %s", a[0].location, a[1].location)
		}
		if gold := w.number("SELECT gold FROM resources WHERE player_id = 1"); gold != 5 {
			t.Fatalf("%g gold is left", gold)
		}
	}
}
