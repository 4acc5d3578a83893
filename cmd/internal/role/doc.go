// Package role wires the packages into what one process does: proxy, shadow, or both. It is plain constructor calls,
// top to bottom; every decision is in the packages.
//
// It promises: the request path starts first and needs nothing but legacy: Kafka, databases and caches that are down
// are waited for in the background, said once, while legacy keeps serving; a stop drains in the order that loses
// nothing (clients, journal, mirror); a shadow process feeds exactly the generations that the control log names (package
// generation has the states), and any of them moves readers and retires what none reads any more. It leaves reading the file to config, and commands to cli. It fails with an error
// only for what cannot work without somebody acting: a port that is taken, a journal that cannot be opened.
package role
