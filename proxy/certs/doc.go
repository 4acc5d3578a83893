// Package certs is what a TLS listener shows its clients: certificates from files, and the files read again when they
// change.
//
// It promises that a listener always has certificates that fit their keys. New files are taken over without a restart
// and without touching connections: a pair that cannot be used leaves the old ones in place, and says so once. Of
// several certificates a client gets the first that fits the name it asks for and what it understands.
//
// It leaves to others: obtaining and renewing certificates, HTTP, and who may connect beyond the authority of
// Config.ClientCA.
//
// It fails at New when something cannot be read, and in the log later.
//
// Not obvious:
//   - A certificate and its key are two files, so a change is seen half done sooner or later. The pair does not fit then,
//     the old one serves on, and the next look finds both (TestReload).
//   - With a ClientCA there are no session tickets: a resumed session would not be asked for its certificate again, and
//     outlive an authority that was taken out (TestClientCA).
package certs
