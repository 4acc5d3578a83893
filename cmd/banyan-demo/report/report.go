// Package report prints the story for people: acts, what was done, what was seen, and whether each claim held.
//
// It promises that every line stands alone (no colours, no cursor tricks unless it is a terminal), that whoever waits sees
// what for, and that the number of failed checks is known at the end. It is safe for concurrent use.
package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Printer prints one story.
type Printer struct {
	start    time.Time
	terminal bool

	mu     sync.Mutex // guards the fields below
	w      io.Writer
	act    int
	checks int
	failed []string
	line   int // length of the waiting line that stands on the terminal
	waited time.Time
}

// New begins a story. On a terminal a waiting line is overwritten, elsewhere it is repeated every few seconds.
func New(w io.Writer, terminal bool) *Printer {
	return &Printer{start: time.Now(), w: w, terminal: terminal}
}

func (p *Printer) printLocked(format string, args ...any) {
	if p.line > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.line))
		p.line = 0
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *Printer) seconds() float64 { return time.Since(p.start).Seconds() }

// Act begins an act: what happens, and why.
func (p *Printer) Act(title, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.act++
	p.printLocked("")
	p.printLocked("[%5.1f s] %d. %s", p.seconds(), p.act, title)
	for _, line := range strings.Split(why, "\n") {
		p.printLocked("          %s", line)
	}
}

// Say prints a line of an act, or before the first.
func (p *Printer) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range strings.Split(fmt.Sprintf(format, args...), "\n") {
		p.printLocked("          %s", line)
	}
}

// Command shows what was typed.
func (p *Printer) Command(line string) { p.Say("$ %s", line) }

// Check prints whether a claim held, and remembers if not.
func (p *Printer) Check(held bool, format string, args ...any) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks++
	word, claim := "ok  ", fmt.Sprintf(format, args...)
	if !held {
		word = "FAIL"
		p.failed = append(p.failed, fmt.Sprintf("act %d: %s", p.act, claim))
	}
	p.printLocked("     %s %s", word, strings.ReplaceAll(claim, "\n", "\n          "))
	return held
}

// Waiting shows what is waited for, as often as it is called.
func (p *Printer) Waiting(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("          ... "+format, args...)
	if !p.terminal {
		if time.Since(p.waited) >= 5*time.Second {
			p.waited = time.Now()
			fmt.Fprintln(p.w, text)
		}
		return
	}
	if len(text) > 150 {
		text = text[:150]
	}
	fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(0, p.line-len(text))))
	p.line = len(text)
}

// Patience makes the next waiting line wait, so that what is quick shows none.
func (p *Printer) Patience() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waited = time.Now()
}

// Result is the number of checks, those that did not hold, and how long it took.
func (p *Printer) Result() (checks int, failed []string, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checks, p.failed, time.Since(p.start)
}
