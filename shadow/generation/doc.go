// Package generation makes the next generation of a migration's events and read model: where it begins, and whether it may
// take the place of the one that readers have.
//
// It promises: a build begins at or before the start of the last complete import of every table, or is refused ([Start]);
// it is called equal only if every row of every state comparison was compared with legacy and none differed ([Verify]),
// by the same code that compares the current generation; nothing of that enters findings or evidence. It leaves to others:
// feeding a generation (translate, dispatch, project), which generation is which (the control log, package stage), who
// reads which (readmodel's pointer, pending), and doing one after the other (the role that wires them). It fails with an
// error that says what to do; a build stays as it is then, and the same command goes on.
//
// # States
//
// All that is decided stands in the control log, as records with compare-and-set by version; everything else follows it,
// after a restart as well. g is the current generation, n the next number that was never given.
//
//	state            record that leads on   decided by               fed      readers use   own writes count when held by
//	g                build                  banyan retranslate       g        g             g
//	g, n building    swap, or abandon       verification, --force    g, n     g             g
//	n, g retiring    retire                 any shadow process       g, n     g or n        g and n
//	n                build                                           n        n             n
//
// A build's record holds the offsets of the settled stream from which n is made, so that every shadow process begins there
// and none has to be told. n has a topic, consumer groups, a schema and Redis keys of its own; its events begin in an empty
// read model, and what stands before the import changes nothing, because an event for an entity that is not imported is a
// no-op. When the record was appended, what no state above uses (retired and abandoned generations) is dropped.
//
// n is verified once its progress has passed a position of legacy's change log that was taken after it had caught up.
//
// The swap's record alone moves no reader. First every live proxy says that it obeys, and so lets own writes count only
// when g and n hold them; the lease of every other one has run out, and it answers from legacy. Only then is the pointer
// moved that readers follow. ReaderBound after that no reader answers from g any more; it is fed for a while longer
// (RetireAfter in the role), and then retired by a record. Until then it could be read, and it is as complete as n. A
// process that ends in between leaves this to any other, or to its next start.
//
// # Not obvious
//
//   - A number is never given twice, also after an abandoned build: progress, parked keys and events of that are still in
//     their topics. (stage: TestANumberIsNeverGivenTwice)
//   - An import that was begun anew and is not done says nothing; the one before it does, as long as the settled stream
//     has it. (TestStartIsBeforeTheLastCompleteImport)
//   - Evidence of g is none of n's: its fingerprint names the generation.
package generation
