package session

import "testing"

func TestPlayers(t *testing.T) {
	p := NewPlayers(2)
	p.Learn("", "9")
	p.Learn("a", "1")
	p.Learn("b", "2")
	if p.Player("a") != "1" || p.Player("") != "" || p.Player("x") != "" {
		t.Fatal("lost or invented a player")
	}
	p.Learn("c", "3") // b is the least recently used
	if p.Player("b") != "" || p.Player("a") != "1" || p.Player("c") != "3" {
		t.Fatal("forgot the wrong one")
	}
	p.Learn("a", "4")
	if p.Player("a") != "4" {
		t.Fatal("a session that logged in as another player kept the first")
	}
	p.Learn("a", "")
	if p.Player("a") != "" || p.order.Len() != 1 {
		t.Fatal("a logout was not forgotten")
	}
}
