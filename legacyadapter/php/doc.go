// Package php knows how PHP and the front ends before it read a request: parameters ([Params]) and paths ([Nginx],
// [Apache], [Server], and [None] for a legacy that is something else). banyan.php beside it is the other direction: one
// file for the PHP side, which ties SQL statements to a request.
//
// It promises what PHP 8 does with its default settings, checked against the real interpreter and the real front ends
// in its tests, no panic on any bytes, and work and memory in proportion to the bytes. It leaves routing to proxy/route,
// whose ports it implements. What PHP would not see is not there; a target that cannot be resolved without guessing is an
// error ([ErrTarget]).
//
// # Not obvious
//
//   - What a name is at the end decides: a=1&a[]=2 has no scalar a, a[k]=1&a=2 has; a name that is nested too deep deletes
//     what was there. Of cookies the first scalar wins, but an array replaces it. (TestParametersAsPHPReadsThem)
//   - A query has 1000 variables, an urlencoded body 1001, and empty pairs count in the body alone. (the same)
//   - PHP reads multipart bodies by a grammar of its own: a part's end is any line that begins with the boundary, the next
//     part's start only a line that is the boundary and nothing else. (the same)
//   - A canonical path keeps %25, %3F and %23, so that resolving it again changes nothing: /a%2541 is no spelling of /aA.
//     (FuzzCanonical)
//   - Behind php-fpm "/a.phar/x.php" runs a.phar, though nginx knows no .phar. (TestSpellingsFindTheirScript)
//   - php -S has no index for a directory when a dot stands anywhere in the path, and stops at the first thing up the path
//     that exists. (the same)
//   - A router script reads the path by itself, mostly with parse_url. What it may read otherwise than php -S is refused.
//     (the same)
package php
