// Package php knows how PHP and the front ends before it read a request: parameters ([Params]) and paths ([Nginx]).
// banyan.php beside it is the other direction: one file for the PHP side, which ties SQL statements to a request.
//
// It promises what PHP 8 does, checked against the real interpreter in its tests, and no panic on any bytes. It
// leaves routing to proxy/route, whose ports it implements. What PHP would not see is not there.
package php
