// Package mirror ships the journal to Kafka: write records to <p>.writes, with the replica's marks between them, and
// gaps and the account to <p>.account.
//
// What it promises: every write that the journal holds is published at least once, under the same identity each time,
// to the partition of each of its ordering keys; records of one key in the order of their outcomes; writes without
// outcome as unknown. Nothing is acknowledged to the journal before Kafka has acknowledged it with acks=all. While
// Kafka is down, slow or lacks a topic it tries for ever, with backoff, and holds one bounded batch in memory: the
// rest waits in the journal, and the append side does not notice. It says so once, and once when it goes on.
//
// Batches keep a distance of up to [Config.Pace] while they are full; the first write after a silence never waits.
//
// A mark is published only after everything that it covers was acknowledged: a look at the journal is taken first
// ([journal.Mark]), then shipping goes on until the look's highest shipping sequence, then the look is published, to
// the partitions that got records at once and to all at least every [Config.MarkEvery]. While batches are full "at once"
// is with the next one, which is due within [Config.Pace]: a mark alone costs as much as a batch, here and there.
//
// While nothing is recorded (every migration is off) and nothing is in flight, marks tell nobody anything, and cost the
// requests that share the core: they are [Config.IdleMarkEvery] apart, and say so ([event.ReplicaMark].Idle). The short
// distance is back with the first write that is recorded, and before it with [Mirror.Wake]; it stays for
// [Config.MaxExecution] after the last, in which legacy may still work on it. The long distance is safe because of what
// waits for marks:
//
//   - a change, at settle, which leaves out a replica that is idle, see there: none of its verdicts waits for such marks,
//     or runs out of patience with them;
//   - settle's replica_wait, the bound to IdleMarkEvery: a quarter of it in package role;
//   - a flip: it is done by heartbeats, of which the one that says "obeyed" is sent after the wake. Time until then is a
//     gap anyway;
//   - "every proxy marks", a gate of shadow: the first mark of a process is sent at once, like every change of distance.
//
// Only a request that began before a flip to off, and is recorded more than MaxExecution after it (it has a long body),
// is first seen when it ends, or up to IdleMarkEvery late: until then its changes may be called dark, which its record
// takes back.
//
// Generations of earlier processes are shipped first, in order; until they are, and while an older process of this
// replica still runs, no mark is published, because a mark of a newer epoch covers all older ones. Their unknown
// writes are listed as in flight until their start + [Config.MaxExecution].
//
// A write whose ordering key is not known goes to every partition, and so do listings of such writes in flight.
// A write too large for one Kafka record goes without its body (Intent.BodyLength says how long it was), counted and
// logged; bodies are not shipped in chunks yet. A write whose intent cannot be read is published as a gap of any
// migration.
//
// What it leaves to others: removing duplicates, settling unknown writes, and what a gap means for the evidence.
package mirror
