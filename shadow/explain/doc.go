// Package explain names why two sides differ, out of what was recorded around the difference. It is pure.
//
// What it promises: a cause is claimed only where the record shows it, and its sentence names the requests and values that
// show it; what cannot be shown is [Unknown], with what is known. The same [Case] gives the same [Explanation]. No values
// cause a panic.
//
// What it leaves to others: whether the comparison was fair (compare), and collecting the record: changes, writes and
// events of the entity up to the position that both sides showed.
//
// # The rules
//
// Two values are alike if they are equal, a number and its text, a bool and 0 or 1, or one instant in two notations. A
// value is looked for in the history of the column that has the path's last name, else of the columns that hold legacy's
// value now; where those columns tell different stories, nothing is claimed. "After" and "before" are the row images. The
// last change of the column is the one that gave legacy's value. The first rule that holds decides:
//
//	legacy nondeterminism  legacy answered the same request twice, with nothing changed in between, and differently
//	stale cache            an answer differs from legacy, the model's tables do not
//	lost update in legacy  the writes of an earlier and of the last change overlap, and
//	                       - the last wrote the column back to what it was before the earlier one, in a row of which it
//	                         changed more, and the candidate has what the earlier one left; or
//	                       - the candidate has legacy's number plus exactly what the earlier one added, which stands in
//	                         one event: so the candidate counted both, each once
//	ordering               an earlier change left the candidate's value, all later ones were made by writes that overlap
//	                       its write, and no event is known to be missing: as if the earlier write had come last
//	dark write             the candidate has the value before a change that no write explains, and no mapping carries
//	translation            an event was made of the change after which the candidate lags, but carries another value
//	missing write          the candidate has the value before a change, and nothing above applies
//	translation            the event of the last change carries the candidate's value; or the candidate has the value of
//	                       another column of that change's row (0, 1, "" and null prove nothing)
//	extra write            an event carries the candidate's value, and its write was rejected, or changed nothing of the entity
//	rounding               the numbers are one 32-bit float, or one is the other rounded or cut to its digits
//	time zone              the instants lie whole hours apart, 14 at most
//	charset                one text is the other's UTF-8 read as Latin-1 or Windows-1252, or has ? for its other letters
//	projection             the event of the last change carries legacy's value, and the model's tables have another
//	dark write             legacy's value came from a dark change that no mapping carries
//
// A row that only legacy has: its insert was dark and unmapped (dark write), or a write's (missing write). A row that only
// the candidate has: so with its delete; or an event of a write that was rejected, or had no effect on it, made it (extra
// write).
package explain
