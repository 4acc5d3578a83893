// Package cli is the command line of banyan: one file per command.
//
// It promises: what is asked for goes to stdout, everything else to stderr; `-o json` prints what scripts should read;
// a failure says what to do next and has one of four exit statuses ([Report]); no command asks a question unless stdin
// is a terminal. Commands about a running system speak to the admin API with a token, never to Kafka or a database.
// It leaves constructing the roles to package role, and what the answers mean to those who give them.
//
// # Not obvious
//
//   - Whatever fails before a command has begun is the user's to mend, so it is a usage error, whoever found it.
//     (TestUsageErrors)
//   - `stage flip` shows the evidence first and flips on condition that the stage is still the one that was shown.
//     (TestFlipIsBoundToWhatWasShown)
package cli
