// Package fastcgi runs PHP behind the proxy without a web server: an Upstream whose connections speak FastCGI 1.0 to
// php-fpm, and which serves the files beside the scripts.
//
// It promises: a script sees the request as nginx with fastcgi_params and fastcgi-php.conf shows it; a test compares
// both, and lists the differences that are meant. Which script runs is decided by the clean path alone (php.Nginx): one
// that is not a file below Root is never handed to php-fpm, so /upload.jpg/x.php runs nothing whatever cgi.fix_pathinfo
// says. A request is written at most once, except that one of which nothing was written goes to another connection.
// Connections, waits, heads and what is kept of STDERR are bounded; bodies stream, and memory does not grow with them.
//
// It leaves to others: whether a request is sent again (upstream.Error has the facts), and whether the answer to a
// client that has left is read to its end (proxy.ForwardOptions.IgnoreClientGone, which recorded writes set, is nginx's
// fastcgi_ignore_client_abort). Otherwise the connection is closed, which PHP notices when it next writes.
//
// It fails with upstream.Error: Busy when no child became free, Malformed for an answer that is not FastCGI or has no
// proper head. A request that names nothing is answered with 404 from here, an ambiguous one with 400.
//
// # What a request means
//
// As nginx with `try_files $uri $uri/ =404`, or `… /index.php?$args` with FrontController:
//
//   - /x.php and /x.php/extra run x.php, if that is a file below Root; PATH_INFO is /extra. Else 404.
//   - /dir/ runs its index. /dir is redirected to /dir/.
//   - Another file below Root is served, to GET and HEAD, with ETag, Last-Modified and one range. Not served (404) are:
//     names with a segment that begins with a dot, but .well-known; names that hold .php, .phtml, .phar or .inc, which
//     are programs or copies of them; and what a symbolic link would fetch from outside of Root (`storage:link` makes
//     such links: declare a Static upstream).
//   - All else is the front controller's, or 404.
//
// With Static, files and what is not there go to that upstream.
//
// # What an answer means
//
// Status makes the status, Location without it a 302. Date is added. X-Accel-Buffering, -Expires, -Limit-Rate and
// -Charset are dropped: nothing is buffered. A Content-Length is held to: a shorter body is cut visibly, a longer one is
// cut to it and logged.
//
// # Files that scripts name
//
// A script may check who asks, and leave the sending to the front: X-Accel-Redirect names a file by a URI, X-Sendfile by
// its path. Its body is dropped; length, tag, date, conditions and ranges are the file's, as of one below Root. A table
// compares X-Accel-Redirect with nginx, and lists the differences that are meant.
//
//   - X-Accel-Redirect: /protected/a.txt is a.txt of the directory that Internal has for /protected/; the longest prefix
//     wins. The URI is decoded once, and a query of it means nothing. The status is 200 whatever the script's was; of its
//     fields Content-Type, Content-Disposition, Set-Cookie, Cache-Control and Expires are kept. PHP says text/html where a
//     script says nothing: header('Content-Type:') lets the file's name decide.
//   - X-Sendfile: /srv/files/a.txt is that file, if one of Sendfile holds it. The path is taken as it is, as
//     mod_xsendfile takes it; lighttpd decodes it. All fields are kept but those about the body that was dropped
//     (Content-Length, -Encoding, -Range, Accept-Ranges, ETag, Last-Modified). A status other than 200 stays, and the file
//     is then sent whole, as by lighttpd; mod_xsendfile hands such an answer on as it is.
//   - A missing file, a path that leads up, and a symbolic link out of the directory are 404, a directory is 403; each is
//     logged with the exchange. What is in no declared directory is 502: no other request is made for it, no named
//     location and no script is run, as nginx would.
//   - A client's own request for such a URI is 404, script or not, and so is one for a directory of Sendfile that is below
//     Root. Of a directory below Root no program and no hidden file is served to a script either.
//
// A framework that is told of this by request fields (X-Sendfile-Type, X-Accel-Mapping) must not hear it from clients:
// give them with Params, as HTTP_X_SENDFILE_TYPE and HTTP_X_ACCEL_MAPPING, which replaces what a client says.
//
// # Not obvious
//
//   - A kept connection holds a child of php-fpm, idle or not: MaxConns is the number of children that are taken.
//   - Children that others have taken are not seen: a request then waits in php-fpm's backlog, up to Timeouts.FirstByte,
//     and is Timeout, not Busy.
//   - That a script exists is remembered for a second; php-fpm answers for one that was deleted within it.
//   - A body that streams holds one while its client sends: Spool is for slow clients.
//   - A body of unknown length is stored in an unlinked temporary file, since php-fpm reads only CONTENT_LENGTH bytes.
//     nginx does the same; 411 would refuse what works today.
//   - php-fpm parses each PARAMS record alone and takes none above 0xfff8 bytes: no parameter is split.
//   - A child that leaves at pm.max_requests says END_REQUEST, and closes a moment later. What is written between is lost
//     and reported as sent (Config.RequestsPerConn). That a script spoke does not mean that it has read its body.
//   - A script that names a file is heard to its end before the file is opened: then its child is free, however long the
//     client takes. One that says more than 1 MiB beside is cut off, and its connection closed.
//   - The status that a script chose is told beside the answer's (upstream.Stead): rules about writes mean the script's.
//   - A script that answers while its body is still being sent gets the rest of the body, until what it says fills the
//     buffer: then the answer wins.
package fastcgi
