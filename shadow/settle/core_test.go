package settle

import (
	"testing"
	"time"

	"banyan/proxy/event"
)

const k1, k2 event.OrderingKey = "match/1", "match/2"

// §4: one candidate, over and fenced: its effect, and the write settles in the same entry.
func TestTheOnlyCandidateMadeIt(t *testing.T) {
	s := tell(t, func(c *Config) { c.MarkEvery = time.Millisecond }).begin()
	s.change(k1, 110, 20)
	s.write("a.1.1", k1, 10, 30)
	s.mark("a", 1, 31)
	s.tick(32)
	s.want() // no fence was sent after its end
	if s.held() != "" || s.unsettled() != "a.1.1" {
		t.Errorf("held %q, unsettled %q", s.held(), s.unsettled())
	}
	s.reader(120, 34)
	s.tick(35)
	s.want() // not by more than the clock error
	if s.held() != "match/1@110" {
		t.Errorf("held %q", s.held())
	}
	s.reader(120, 36)
	s.tick(37)
	s.want("match/1 110-110 | 110 effect a.1.1 | a.1.1 applied [110]")
	if s.held() != "" || s.unsettled() != "" || s.last.Position != 120 || s.last.Replicas["a"].Seq != 1 {
		t.Errorf("%+v", s.last)
	}
}

// §4: the head waits until each live replica's mark is past it.
func TestDarkOnlyWhenEveryMarkIsPast(t *testing.T) {
	s := tell(t).begin()
	s.mark("b", 0, 0)
	s.change(k1, 110, 20)
	s.reader(110, 30)
	s.mark("a", 0, 100)
	s.mark("b", 0, 24) // 20 + 5 is not past
	s.tick(101)
	s.want()
	s.mark("b", 0, 25)
	s.tick(102)
	s.want("match/1 110-110 | 110 dark")
}

// A proxy that records nothing sends few marks, and nobody waits for the next one, nor calls unattributed what only has
// its mark to wait for.
func TestAnIdleReplicaIsNotWaitedFor(t *testing.T) {
	s := tell(t).begin()
	s.mark("b", 0, 0, "idle")
	s.change(k1, 110, 20)
	s.tick(20)
	s.mark("a", 0, 60)
	s.reader(120, 60)
	s.tick(61)
	s.want()
	s.reader(120, 144) // half of attribute_wait is not over
	s.tick(144)
	s.want()
	s.reader(120, 145)
	s.tick(145)
	s.want("match/1 110-110 | 110 dark")
}

// An idle proxy that begins to record says so before its first write: from then on its marks count as anybody's.
func TestAReplicaIsNotIdleForEver(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 0, 60, "idle")
	s.change(k1, 110, 80)
	s.reader(120, 85)
	s.tick(85)
	s.mark("a", 1, 90, "1 match/1 75")
	s.reader(120, 250)
	s.tick(250)
	s.want()
	s.write("a.1.1", k1, 75, 255)
	s.mark("a", 1, 265)
	s.reader(120, 265)
	s.tick(266)
	s.want("match/1 110-110 | 110 effect a.1.1 | a.1.1 applied [110]")
	s.change(k2, 130, 400)
	s.reader(140, 405)
	s.tick(405)
	s.reader(140, 540)
	s.tick(540)
	s.want()
	s.mark("a", 1, 420)
	s.tick(541)
	s.want("match/2 130-130 | 130 dark")
}

// While a backlog is read, the last mark that said idle proves nothing: later ones wait behind it.
func TestAnOldIdleMarkIsWaitedOn(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 0, 60, "idle")
	s.change(k1, 110, 5080)
	s.reader(120, 5100)
	s.tick(5100)
	s.mark("a", 0, 100, "idle")
	s.reader(120, 5240)
	s.tick(5240)
	s.want()
	s.mark("a", 0, 4500, "idle")
	s.tick(5241)
	s.want("match/1 110-110 | 110 dark")
}

// §4: several candidates are listed, never chosen from.
func TestSeveralCandidatesAreListed(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30)
	s.write("a.1.2", k1, 12, 28)
	s.write("a.1.3", k2, 12, 28)
	s.change(k1, 110, 20)
	s.mark("a", 3, 60)
	s.reader(110, 60)
	s.tick(61)
	s.want("match/1 110-110 | 110 unattributed [a.1.1 a.1.2]",
		"match/1 110-110 | a.1.2 applied overlaps [a.1.1]", "match/1 110-110 | a.1.1 applied overlaps [a.1.2]", "match/2 110-110 | a.1.3 applied")
}

// §4: subject and claimed columns narrow the candidates.
func TestClaimsNarrow(t *testing.T) {
	s := tell(t, func(c *Config) { c.Claims = func(w *event.Write, _ *event.Change) bool { return w.ID.Seq == 2 } }).begin()
	s.write("a.1.1", k1, 10, 30)
	s.write("a.1.2", k1, 12, 28)
	s.change(k1, 110, 20)
	s.mark("a", 2, 60)
	s.reader(110, 60)
	s.tick(61)
	s.want("match/1 110-110 | 110 effect a.1.2 | a.1.2 applied [110] overlaps [a.1.1]", "match/1 110-110 | a.1.1 applied overlaps [a.1.2]")
}

// §1, §4: a write that ended before the last fence below a change, or began after it was received, is no candidate.
func TestOnlyWritesThatTouchTheSpanAreCandidates(t *testing.T) {
	s := tell(t).begin()
	s.reader(100, 50)
	s.change(k1, 110, 60)
	s.write("a.1.1", k1, 10, 44) // 44 + 5 < 50
	s.write("a.1.2", k1, 66, 70) // 66 - 5 > 60
	s.write("a.1.3", k1, 10, 45) // touches
	s.mark("a", 3, 80)
	s.reader(110, 90)
	s.tick(91)
	s.want("match/1 110-110 | 110 effect a.1.3 | a.1.3 applied [110] overlaps [a.1.1]", "match/1 110-110 | a.1.1 applied overlaps [a.1.3]", "match/1 110-110 | a.1.2 applied")
}

// §2: a write in flight at the mark may have made it, until it comes or is no longer listed.
func TestAWriteInFlightHoldsItsKeyAlone(t *testing.T) {
	s := tell(t).begin()
	s.change(k1, 110, 20)
	s.change(k2, 111, 20)
	s.reader(120, 60)
	s.mark("a", 1, 60, "1 match/1 15")
	s.tick(61)
	s.want("match/2 111-111 | 111 dark")
	if s.held() != "match/1@110" || s.unsettled() != "a.1.1" {
		t.Errorf("held %q, unsettled %q", s.held(), s.unsettled())
	}
	s.write("a.1.1", k1, 15, 70)
	s.mark("a", 1, 80)
	s.reader(120, 80)
	s.tick(81)
	s.want("match/1 110-110 | 110 effect a.1.1 | a.1.1 applied [110]")
}

func TestAWriteWhoseKeyIsNotKnownHoldsEveryKey(t *testing.T) {
	for _, key := range []string{"*", "-"} {
		s := tell(t).begin()
		s.change(k1, 110, 20)
		s.reader(120, 60)
		s.mark("a", 1, 60, "1 "+key+" 15")
		s.tick(61)
		s.want()
		s.mark("a", 1, 70)
		s.tick(71)
		s.want("match/1 110-110 | 110 dark")
	}
}

// §4: at the latest after attribute_wait (and the clock error), without an answer, with the candidates.
func TestTheWaitRunsOut(t *testing.T) {
	s := tell(t).begin()
	s.change(k1, 110, 20)
	s.reader(120, 60)
	s.mark("a", 1, 60, "1 match/1 15")
	s.tick(20)
	s.tick(274)
	s.want()
	s.tick(275)
	s.want("match/1 110-110 | 110 unattributed [a.1.1]")
	// The long request ends, and nobody else can have made it: it is named at the write.
	s.write("a.1.1", k1, 15, 400)
	s.mark("a", 1, 410)
	s.reader(120, 410)
	s.tick(411)
	s.want("match/1 120-120 | a.1.1 applied [110] late")
}

// §4: annotation is exact; the entry is closed under the write, whatever else was at work.
func TestAnnotatedChangesOfAWriteStandInOneEntry(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30)
	s.write("a.1.2", k1, 10, 30)
	s.change(k1, 110, 20, by("a.1.1"))
	s.change(k1, 111, 20, by("a.1.2"))
	s.tick(31)
	s.want() // the records are here, but no fence was sent after their end: there may be more
	s.change(k1, 112, 21, by("a.1.1"))
	s.change(k1, 113, 21, by("a.1.2"))
	s.reader(113, 36)
	s.change(k1, 114, 40)
	s.mark("a", 2, 60)
	s.reader(120, 60)
	s.tick(61)
	s.want("match/1 110-113 | 110 effect a.1.1! | 111 effect a.1.2! | 112 effect a.1.1! | 113 effect a.1.2! | a.1.1 applied [110 112] overlaps [a.1.2] | a.1.2 applied [111 113] overlaps [a.1.1]",
		"match/1 114-114 | 114 dark")
}

// An annotated change waits for no other replica, and not for other writes.
func TestAnnotatedChangesWaitForNobodyElse(t *testing.T) {
	s := tell(t).begin()
	s.mark("b", 0, 0, "1 match/1 5")
	s.write("a.1.1", k1, 10, 30)
	s.change(k1, 110, 20, by("a.1.1"))
	s.reader(120, 36)
	s.tick(37)
	s.want("match/1 110-110 | 110 effect a.1.1! | a.1.1 applied [110]")
}

// §6: the write waits, its key does not.
func TestAnAnnotatedChangeGoesOnBeforeItsWrite(t *testing.T) {
	s := tell(t).begin()
	s.change(k1, 110, 20, by("a.1.1"))
	s.change(k1, 111, 21)
	s.mark("a", 1, 30, "1 match/1 10")
	s.reader(120, 30)
	s.tick(20)
	s.want()
	s.tick(275)
	s.want("match/1 110-110 | 110 effect a.1.1!", "match/1 111-111 | 111 unattributed [a.1.1]")
	if s.unsettled() != "a.1.1" {
		t.Errorf("unsettled %q", s.unsettled())
	}
	s.write("a.1.1", k1, 10, 500)
	s.reader(120, 506)
	s.mark("a", 1, 506)
	s.tick(507)
	s.want("match/1 120-120 | a.1.1 applied [110 111] late")
}

// A write of another partition has no record here: its replica's mark tells that none will come.
func TestAnAnnotatedChangeOfAnotherPartitionsWrite(t *testing.T) {
	s := tell(t).begin()
	s.change(k1, 110, 20, by("a.1.1"))
	s.mark("a", 1, 30)
	s.reader(120, 35)
	s.tick(36)
	s.want()
	s.reader(120, 36)
	s.tick(37)
	s.want("match/1 110-110 | 110 effect a.1.1!")
}

func TestSeveralAnnotationsInOneTransaction(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30)
	s.write("a.1.2", k1, 40, 41)
	s.change(k1, 110, 45, by("a.1.1"), func(x *event.Change) { x.Other = []event.WriteID{id("a.1.2")} })
	s.mark("a", 2, 60)
	s.reader(120, 60)
	s.tick(61)
	s.want("match/1 110-110 | 110 unattributed! [a.1.1 a.1.2]", "match/1 120-120 | a.1.1 applied", "match/1 120-120 | a.1.2 applied")
}

// §4: strictly in commit order per key; one held key does not stop the others.
func TestAHeldHeadHoldsItsKeyInOrder(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 1, 10, "1 match/1 5")
	s.write("a.1.2", k1, 12, 13)
	s.change(k1, 110, 12, by("a.1.1"))
	s.change(k1, 111, 13, by("a.1.2"))
	s.change(k2, 112, 13, by("a.1.3"))
	s.write("a.1.3", k2, 12, 13)
	s.reader(120, 20)
	s.tick(21)
	s.want("match/2 112-112 | 112 effect a.1.3! | a.1.3 applied [112]")
	if s.held() != "match/1@110" {
		t.Errorf("held %q", s.held())
	}
	s.write("a.1.1", k1, 5, 22)
	s.reader(120, 28)
	s.tick(29)
	s.want("match/1 110-110 | 110 effect a.1.1! | a.1.1 applied [110] overlaps [a.1.2]", "match/1 111-111 | 111 effect a.1.2! | a.1.2 applied [111] overlaps [a.1.1]")
}

// §4: a silent replica may have made anything: never dark, and no waiting for it.
func TestSilenceIsNeverDark(t *testing.T) {
	s := tell(t).begin()
	s.mark("b", 5, 1)
	s.tick(1)
	s.mark("a", 0, 20_000)
	s.tick(20_000)
	s.change(k1, 110, 15_000)
	s.reader(120, 20_001)
	s.write("a.1.1", k2, 14_990, 15_010)
	s.change(k2, 111, 15_000)
	s.tick(20_002)
	s.want("match/1 110-110 | 110 unattributed", "match/2 111-111 | 111 unattributed [a.1.1]", "match/2 120-120 | a.1.1 applied")
	if st := s.c.Stats(); st.Silent != 1 {
		t.Errorf("%+v", st)
	}
	// It comes back.
	s.mark("b", 5, 20_100)
	s.mark("a", 1, 20_100)
	s.change(k1, 130, 20_050)
	s.reader(130, 20_110)
	s.tick(20_111)
	s.want("match/1 130-130 | 130 dark")
}

// Ended marks retire a replica; only being forgotten does so for one that never said good-bye.
func TestAnEndedReplicaIsNotWaitedFor(t *testing.T) {
	s := tell(t).begin()
	s.markEpoch("b", 1, 5, 1, true)
	s.tick(2)
	s.mark("a", 0, 20_000)
	s.change(k1, 110, 15_000)
	s.reader(120, 20_001)
	s.tick(20_002)
	s.want("match/1 110-110 | 110 dark")
	if r := s.last.Replicas["b"]; !r.Ended || r.Seq != 5 {
		t.Errorf("%+v", r)
	}
	s.mark("c", 1, 20_002)
	s.tick(20_003)
	day := int(24 * time.Hour / time.Millisecond)
	s.mark("a", 0, day+40_000)
	s.tick(day + 40_000)
	s.change(k1, 130, day+30_000)
	s.reader(130, day+40_000)
	s.tick(day + 40_001)
	s.want("match/1 130-130 | 130 dark")
	if len(s.last.Replicas) != 1 {
		t.Errorf("%+v", s.last.Replicas)
	}
}

// §6: a new epoch's list replaces the old one's, but for the writes that it adopted.
func TestANewEpochSupersedes(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 2, 10, "1 match/1 5", "2 match/2 5")
	s.change(k1, 110, 12)
	s.change(k2, 111, 12)
	s.reader(120, 30)
	s.tick(31)
	s.want()
	s.markEpoch("a", 2, 0, 40, false, "1.2 match/2 5")
	s.tick(41)
	s.want("match/1 110-110 | 110 dark")
	if s.unsettled() != "a.1.2" || s.last.Replicas["a"].Epoch != 2 {
		t.Errorf("unsettled %q, %+v", s.unsettled(), s.last.Replicas)
	}
	s.write("a.1.2", k2, 5, 6, unknown)
	s.tick(45)
	s.want()
	s.mark("a", 9, 46) // the mark of the old epoch is read again: nothing of it counts
	s.tick(47)
	if s.last.Replicas["a"].Epoch != 2 {
		t.Errorf("%+v", s.last.Replicas)
	}
}

// §4: a late record covers a dark change: it is named among the write's effects.
func TestDarkIsWithdrawnByALateRecord(t *testing.T) {
	s := tell(t).begin()
	s.change(k1, 110, 20)
	s.mark("a", 0, 30)
	s.reader(120, 60)
	s.tick(61)
	s.want("match/1 110-110 | 110 dark")
	s.write("b.1.1", k1, 15, 25) // of a proxy nobody knew
	s.tick(62)
	s.want() // its mark may list more such writes
	s.mark("b", 1, 70)
	s.tick(71)
	s.want("match/1 120-120 | b.1.1 applied [110] late")
}

// §6: applied as the sole candidate, once it cannot run any more.
func TestUnknownAppliedAsSoleCandidate(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30, unknown)
	s.change(k1, 110, 20)
	s.mark("a", 1, 60)
	s.reader(120, 60)
	s.tick(60)
	s.want()
	s.tick(400)
	s.want("match/1 110-110 | 110 unattributed [a.1.1]")
	s.reader(120, 1035)
	s.tick(1036)
	s.want()
	s.reader(120, 1036)
	s.tick(1037)
	s.want("match/1 120-120 | a.1.1 applied [110] late")
}

func TestUnknownAppliedByAnnotation(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30, unknown)
	s.write("a.1.2", k1, 10, 30, unknown)
	s.change(k1, 110, 20, by("a.1.1"))
	s.mark("a", 2, 60)
	s.reader(120, 60)
	s.tick(60)
	s.tick(400)
	s.want("match/1 110-110 | 110 effect a.1.1!")
	s.reader(120, 1036)
	s.tick(1037)
	s.want("match/1 120-120 | a.1.1 applied [110] late overlaps [a.1.2]", "match/1 120-120 | a.1.2 not_applied overlaps [a.1.1]")
}

// §6: not applied only past max_execution, with no change that it can have made.
func TestUnknownNotAppliedOnlyPastMaxExecution(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30, unknown)
	s.mark("a", 1, 60)
	s.reader(120, 1035)
	s.tick(1036)
	s.want()
	s.reader(120, 1036)
	s.tick(1037)
	s.want("match/1 120-120 | a.1.1 not_applied")
}

// §6: legacy ran on: a change long after the time-out is the write's.
func TestUnknownRunsOn(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30, unknown)
	s.mark("a", 1, 60)
	s.reader(120, 800)
	s.change(k1, 130, 805)
	s.mark("a", 1, 900)
	s.reader(140, 1036)
	s.tick(1037)
	s.want("match/1 130-130 | 130 effect a.1.1 | a.1.1 applied [130]")
}

func TestUnknownsThatCannotBeTold(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30, unknown)
	s.write("a.1.2", k1, 11, 31, unknown)
	s.change(k1, 110, 20)
	s.mark("a", 2, 2000)
	s.reader(120, 2000)
	s.tick(2001)
	s.want("match/1 110-110 | 110 unattributed [a.1.1 a.1.2]", "match/1 120-120 | a.1.1 unresolved overlaps [a.1.2]", "match/1 120-120 | a.1.2 unresolved overlaps [a.1.1]")
}

// A crash leaves no end: the intent counts.
func TestUnknownWithoutAnEnd(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 0, func(w *event.Write) {
		w.Result = event.Result{Outcome: event.Unknown}
	})
	s.reader(120, 1015)
	s.tick(1016)
	s.want()
	s.reader(120, 1016)
	s.tick(1017)
	s.want("match/1 120-120 | a.1.1 not_applied")
}

func TestARejectedWriteMayHaveEffects(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 30, rejected)
	s.write("a.1.2", k2, 10, 30, rejected)
	s.change(k1, 110, 20)
	s.mark("a", 2, 60)
	s.reader(120, 60)
	s.tick(61)
	s.want("match/1 110-110 | 110 effect a.1.1 | a.1.1 rejected [110]", "match/2 120-120 | a.1.2 rejected")
}

// A write without effects stands alone, below the changes of its key that still wait.
func TestAWriteWithoutEffectsDoesNotWaitForItsKey(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 20)
	s.reader(110, 30)
	s.change(k1, 115, 40)
	s.mark("a", 2, 50, "2 match/1 35")
	s.reader(120, 50)
	s.tick(51)
	s.want("match/1 114-114 | a.1.1 applied")
}

// §7: imports come at their position, after what stands before them, and wait for nobody.
func TestImportsKeepTheOrderAndDoNotWait(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 1, 10, "1 match/1 5")
	s.change(k1, 110, 12)
	s.change(k1, 110, 12, imported(7))
	s.change(k2, 110, 12, imported(8))
	s.change(k2, 110, 12, imported(9)) // the next chunk, while legacy is idle
	s.change(k2, 110, 12, imported(9)) // and it again
	s.reader(120, 30)
	s.tick(31)
	s.want("match/2 110-110 | 110 import", "match/2 110-110 | 110 import")
	s.mark("a", 1, 40)
	s.tick(41)
	s.want("match/1 110-110 | 110 dark", "match/1 110-110 | 110 import")
	if st := s.c.Stats(); st.Duplicates != 1 || st.Imported != 3 || st.Expired != 0 {
		t.Errorf("%+v", st)
	}
}

// §3: a change without a key is relevant to every key: what is below it goes first, what is above it waits.
func TestAChangeWithoutAKeyIsABarrier(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 1, 10, "1 match/1 5")
	s.change(k1, 110, 12)
	s.change("", 111, 12)
	s.change(k2, 112, 12)
	s.change(k1, 113, 12, imported(3))
	s.reader(120, 30)
	s.tick(31)
	s.want()
	if s.held() != "match/1@110 @111 match/2@112" {
		t.Errorf("held %q", s.held())
	}
	s.mark("a", 1, 40)
	s.tick(41)
	s.want("match/1 110-110 | 110 dark", " 111-111 | 111 unattributed", "match/2 112-112 | 112 dark", "match/1 113-113 | 113 import")
	s.defaultMove = "economy" // another migration's keys do not wait
	s.change("", 121, 40, by("a.1.9"))
	s.defaultMove = "units"
	s.change(k1, 122, 41)
	s.mark("a", 1, 60)
	s.reader(130, 60)
	s.tick(61)
	s.want("match/1 122-122 | 122 dark")
}

// §3: a write whose key nobody knows may have changed any.
func TestAWriteWithoutAKeyIsACandidateForEvery(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", "", 10, 30)
	s.write("a.1.2", k2, 10, 30)
	s.change(k1, 110, 12)
	s.change(k2, 111, 12)
	s.mark("a", 2, 60)
	s.reader(120, 60)
	s.tick(61)
	s.want("match/2 111-111 | 111 unattributed [a.1.1 a.1.2]", "match/2 120-120 | a.1.2 applied overlaps [a.1.1]", "match/1 110-110 | 110 effect a.1.1")
	s.reader(121, 80)
	s.tick(81)
	s.want(" 121-121 | a.1.1 applied [110] late")
}

// Repeats are dropped and counted, before and after they are settled, before and after a mark covers them.
func TestRepeatsAreDropped(t *testing.T) {
	s := tell(t).begin()
	again := func() {
		s.write("a.1.1", k1, 10, 20)
		s.change(k1, 110, 12)
	}
	again()
	again()
	s.mark("a", 1, 60, "1 match/1 10") // still in flight: the proxy has not heard of the acknowledgement
	again()
	s.reader(120, 30)
	s.tick(61)
	s.want("match/1 110-110 | 110 effect a.1.1 | a.1.1 applied [110]")
	again()
	s.mark("a", 1, 62)
	again()
	s.reader(120, 80)
	s.tick(81)
	s.want()
	s.change(k2, 105, 12) // the log never goes back: a repeat of what was below
	s.mark("a", 1, 90)
	s.tick(91)
	s.want()
	if st := s.c.Stats(); st.Duplicates != 9 || st.Effects != 1 || st.Writes != 1 {
		t.Errorf("%+v", st)
	}
}

// The parts of one transaction for one key are told apart by their rows.
func TestPartsOfATransaction(t *testing.T) {
	s := tell(t).begin()
	s.change(k1, 110, 12)
	s.change(k1, 110, 12, func(x *event.Change) { x.Part, x.Rows[0].N = 2, 40 })
	s.change(k2, 110, 12)
	s.mark("a", 1, 60)
	s.reader(120, 60)
	s.tick(61)
	s.want("match/1 110-110 | 110 dark", "match/1 110-110 | 110 dark", "match/2 110-110 | 110 dark")
}

// An entry has bounds; what is cut off follows, and the write is late.
func TestEntriesAreBounded(t *testing.T) {
	for name, f := range map[string]func(*Config){"rows": func(c *Config) { c.MaxRows = 2 }, "bytes": func(c *Config) { c.MaxBytes = 500 }} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, f).begin()
			s.write("a.1.1", k1, 10, 20)
			for i := range event.Position(5) {
				s.change(k1, 110+i, 12, by("a.1.1"))
			}
			s.reader(120, 30)
			s.tick(31)
			s.want("match/1 110-111 | 110 effect a.1.1! | 111 effect a.1.1!", "match/1 112-113 | 112 effect a.1.1! | 113 effect a.1.1!",
				"match/1 114-114 | 114 effect a.1.1! | a.1.1 applied [110 111 112 113 114] late")
		})
	}
}

// While a backlog is read, changes wait for the writes that are read at the same time.
func TestABacklogDoesNotRunOut(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 0, 1)
	s.tick(60_000)
	s.change(k1, 110, 40)
	s.reader(120, 100)
	for i := range 20 {
		s.mark("a", 0, 2+i)
		s.tick(60_000 + 100*i)
	}
	s.want()
	s.write("a.1.1", k1, 30, 50)
	s.mark("a", 1, 100)
	s.tick(62_000)
	s.want("match/1 110-110 | 110 effect a.1.1 | a.1.1 applied [110]")
}

// Memory is bounded: too many waiting changes go on.
func TestTooManyWaitingChangesGoOn(t *testing.T) {
	s := tell(t, func(c *Config) { c.MaxPending = 2 }).begin()
	for i := range event.Position(3) {
		s.change(k1, 110+i, 12)
	}
	s.tick(13)
	s.want("match/1 110-110 | 110 unattributed")
}

// Fences pass through once, in order; a mark comes at least every MarkEvery.
func TestMarksPassFencesOn(t *testing.T) {
	s := tell(t).begin()
	s.reader(110, 20)
	s.reader(120, 40)
	s.c.ReaderMark(&event.ReaderMark{V: 1, Position: 110, Fences: []event.Fence{{Sent: ms(20), Position: 110}}}, 9)
	s.tick(41)
	if f := s.last.Fences; len(f) != 2 || f[0].Position != 110 || f[1].Position != 120 || s.last.Position != 120 {
		t.Errorf("%+v", s.last)
	}
	n := s.marks
	s.tick(60)
	if s.marks != n {
		t.Error("a mark without need")
	}
	s.tick(91)
	if s.marks != n+1 || len(s.last.Fences) != 0 {
		t.Errorf("%d marks, %+v", s.marks-n, s.last)
	}
}

// What somebody may wait for is told at once; news of fences alone waits for the others.
func TestMarksThatFreeSomethingComeAtOnce(t *testing.T) {
	s := tell(t).begin()
	n := s.marks
	step := func(now int, want int, what string) {
		t.Helper()
		s.tick(now)
		if s.marks-n != want {
			t.Errorf("%s: %d marks, want %d", what, s.marks-n, want)
		}
		n = s.marks
	}
	s.reader(110, 10)
	step(11, 0, "a fence alone")
	s.mark("a", 0, 12)
	step(13, 0, "a proxy that has nothing to say")
	s.change(k1, 120, 14)
	s.reader(130, 15)
	step(16, 0, "a change that waits")
	s.mark("a", 1, 20, "1 match/1 15")
	step(20, 1, "a write is in flight")
	if s.held() != "match/1@120" {
		t.Errorf("held %q", s.held())
	}
	s.write("a.1.1", k1, 12, 16)
	s.mark("a", 1, 22)
	step(22, 1, "the write is no longer in flight")
	s.reader(130, 22)
	step(23, 1, "the key is free")
	s.want("match/1 120-120 | 120 effect a.1.1 | a.1.1 applied [120]")
	if s.held() != "" || s.last.Position != 130 {
		t.Errorf("%+v", s.last)
	}
	s.reader(140, 60)
	step(64, 1, "a fence, and the last mark is old")
}

// Resume offsets stay below all that waits.
func TestResumeOffsets(t *testing.T) {
	s := tell(t).begin() // writes 0; changes 0
	s.write("a.1.1", k2, 10, 30, unknown)
	s.write("a.1.2", k1, 10, 15)
	s.change(k2, 110, 20)
	s.reader(120, 30)
	s.mark("a", 2, 60)
	s.change(k1, 130, 400)
	s.tick(400)
	s.tick(700)
	s.want("match/1 120-120 | a.1.2 applied", "match/2 110-110 | 110 unattributed [a.1.1]", "match/1 130-130 | 130 unattributed")
	if s.last.ResumeWrites != 1 || s.last.ResumeChanges != 0 {
		t.Errorf("resume %d %d: the unknown write, and the change that may be its, are needed", s.last.ResumeWrites, s.last.ResumeChanges)
	}
	s.reader(140, 1036)
	s.mark("a", 2, 1036)
	s.tick(1037)
	s.want("match/2 140-140 | a.1.1 applied [110] late")
	if s.last.ResumeWrites != 5 || s.last.ResumeChanges != 4 {
		t.Errorf("resume %d %d, want the ends, from the last fence on", s.last.ResumeWrites, s.last.ResumeChanges)
	}
}

// A change without a key that could go at once waits for those before it, of its own migration alone.
func TestABarrierWaitsForWhatIsBeforeIt(t *testing.T) {
	s := tell(t).begin()
	s.mark("a", 5, 30, "1 match/1 5")
	s.change(k1, 110, 12)
	s.change("", 111, 12, by("a.1.3"))
	s.defaultMove = "economy"
	s.change("", 112, 12, by("a.1.4"))
	s.defaultMove = "units"
	s.reader(120, 20)
	s.tick(21)
	s.reader(120, 40)
	s.tick(41)
	s.want(" 112-112 | 112 effect a.1.4!")
	s.mark("a", 5, 45)
	s.tick(46)
	s.reader(120, 60)
	s.tick(61)
	s.want("match/1 110-110 | 110 dark", " 111-111 | 111 effect a.1.3!")
}

// Clocks differ between proxies, not within one.
func TestOverlapsAreWidenedAcrossReplicasOnly(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 10, 20)
	s.write("a.1.2", k1, 22, 30)
	s.write("b.1.1", k1, 34, 40)
	s.reader(120, 50)
	s.tick(51)
	s.want("match/1 120-120 | a.1.1 applied", "match/1 120-120 | a.1.2 applied overlaps [b.1.1]", "match/1 120-120 | b.1.1 applied overlaps [a.1.2]")
}

// After a restart, marks of a proxy are read again that list in flight what has settled since: a repeat stays one.
func TestASuccessorKnowsWhatHasSettled(t *testing.T) {
	s := tell(t)
	s.c.Restore(&event.SettledMark{V: 1, Position: 120, Replicas: map[event.Replica]event.Reached{"a": {Epoch: 1, Seq: 2}},
		Unsettled: []event.Unsettled{{ID: id("a.1.2"), Addresses: []event.Address{{Migration: "units", Key: k1}}}}}, func(func(*event.Entry) bool) {})
	s.mark("a", 2, 10, "1 match/1 5", "2 match/1 5")
	s.write("a.1.1", k1, 5, 20)
	s.write("a.1.2", k2, 5, 20) // at this address it had settled
	s.write("a.1.2", k1, 5, 20)
	s.reader(120, 40)
	s.tick(41)
	s.want("match/1 120-120 | a.1.2 applied")
	if s.unsettled() != "" {
		t.Errorf("unsettled %q", s.unsettled())
	}
}

// What no mark covers can come again: a successor must read the record, and the entry, to know that it has settled.
func TestASettledWriteIsNeededUntilAMarkCoversIt(t *testing.T) {
	s := tell(t).begin()
	s.write("a.1.1", k1, 5, 20)
	s.reader(120, 40)
	s.tick(41)
	s.want("match/1 120-120 | a.1.1 applied")
	if s.last.ResumeWrites != 1 {
		t.Errorf("resume writes %d, want 1: the record", s.last.ResumeWrites)
	}
	s.mark("a", 1, 50)
	s.tick(51)
	if s.last.ResumeWrites != 3 {
		t.Errorf("resume writes %d, want 3: the end", s.last.ResumeWrites)
	}
}

// A successor gives no mark before it has read again as far as its predecessor was, and passes no fence on again.
func TestASuccessorIsSilentUntilItKnowsWhatIsHeld(t *testing.T) {
	s := tell(t)
	s.c.Restore(&event.SettledMark{V: 1, Position: 120, Held: []event.Held{{Migration: "units", Key: k1, From: 115}},
		Fences: []event.Fence{{Sent: ms(20), Position: 120}}}, func(func(*event.Entry) bool) {})
	s.mark("a", 0, 5)
	s.reader(110, 10)
	s.change(k1, 112, 12)
	s.change(k1, 115, 12)
	s.tick(100)
	if s.marks != 0 {
		t.Errorf("%+v", s.last)
	}
	s.reader(120, 20)
	s.reader(120, 30)
	s.tick(101)
	if s.held() != "match/1@115" || s.last.Position != 120 || len(s.last.Fences) != 1 || !s.last.Fences[0].Sent.Equal(ms(30)) {
		t.Errorf("%+v", s.last)
	}
	s.mark("a", 0, 60)
	s.tick(102)
	s.want("match/1 115-115 | 115 dark") // 112 was published
}

// Entries are read back as long as a record in them is read again, or a position in them is above the mark's.
func TestTrail(t *testing.T) {
	c := &Core{nextWrites: 10, nextChanges: 10, highest: 200}
	var tr trail
	at := func(next int64, entries bool, writes, changes int64, pos event.Position) int64 {
		return tr.resume(next, entries, c, &event.SettledMark{ResumeWrites: writes, ResumeChanges: changes, Position: pos})
	}
	for i, x := range []struct{ got, want int64 }{
		{at(5, true, 10, 10, 190), 5}, // position 200 stands in it
		{at(6, false, 10, 10, 199), 5},
		{at(7, false, 10, 10, 200), 7},
		{at(8, true, 9, 10, 200), 8},
		{at(9, false, 10, 9, 200), 8},
		{at(11, false, 10, 10, 200), 11},
	} {
		if x.got != x.want {
			t.Errorf("%d: resume at %d, want %d", i, x.got, x.want)
		}
	}
}
