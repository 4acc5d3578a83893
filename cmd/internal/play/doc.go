// Package play plays the game of testdata/game: many players at once, each with a
// cookie jar and a goroutine of its own, over HTTP.
//
// It promises to behave as players do (log in by the form with its token, look,
// order, follow the redirect, poll), to judge every answer by the contract in
// testdata/game/README.md, and to tell apart what was done, what was refused (a 200
// with an error page is a refusal) and what is unknown because the answer never
// came. It checks that a player sees its own writes in its next read of the same
// things; a read that does not show them counts in [Totals.Missed]. It marks every write with a
// client_ref, unique in the run, which [Config.Wrote] hears of.
//
// It knows HTTP and the contract, nothing of PHP, of banyan or of a database, and
// it works against any implementation of the endpoints. Starting servers, seeding
// and cron are left to others.
//
// Players wait for their answers: the load follows a slow server down and the
// latencies are those of requests sent, not of requests wanted. A server that is
// away costs errors, never the run: players log in again and go on until the context
// ends.
package play
