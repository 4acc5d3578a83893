// Package diff says whether two documents are equal, where they are not, and
// what had to be tolerated: answers of legacy and candidate, rows of their
// databases, anything that is a tree of values.
//
// # The rule of equality
//
// Without rules two values are equal when they are of one kind and
//
//   - numbers denote the same decimal: 1, 1.0 and 10e-1 do; nothing is rounded,
//     no float is involved, and 9007199254740993 is not 9007199254740992;
//   - strings have the same bytes, however they were escaped, UTF-8 or not;
//   - lists have equal elements in the same order;
//   - objects have equal members, in any order;
//   - instants are the same nanosecond.
//
// A member that is null is not a member that is absent. A [Rule] loosens this
// for the places that its pattern matches, by the kind of value found there;
// each use of a rule is counted, and what a rule mutes is counted apart, since
// it is no evidence. No rule makes unequal what is equal without rules, except
// through what a [Session] learned: opaque values and counters.
//
// # What it promises
//
//   - Nothing is dropped unaccounted: a [Report] counts every difference, kept or
//     not, and every leaf as compared, muted or undecided.
//   - The same input gives the same report, in the same order.
//   - No bytes cause a panic. Depth, size and number of values are bounded, see
//     [Limits], and so is the time that matching unordered elements may take;
//     where that runs out, a note says so and the elements count as different.
//   - [EqualJSON] says [Equal] or [Tolerated] only where [CompareJSON] finds no
//     difference.
//
// # What it leaves to others
//
// Reading anything; deciding when a comparison is fair (see
// [Options.Undecided]); grouping differences into findings beyond
// [Difference.Group]; hiding secrets; HTML.
//
// # How it fails
//
// Text that is not JSON is a [SyntaxError] with its offset, a wrong rule a
// [FieldError] with field, value and bound. Comparing itself cannot fail.
package diff
