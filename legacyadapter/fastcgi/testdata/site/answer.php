<?php
// Answers in the way that the query asks for.
switch ($_GET['how'] ?? '') {
case 'status': http_response_code((int)$_GET['code']); echo 'status'; break;
case 'line': header('HTTP/1.1 404 Nothing Here'); echo 'line'; break;
case 'location': header('Location: /elsewhere?x=1'); break;
case 'created': http_response_code(201); header('Location: /new'); echo 'made'; break;
case 'cookies': setcookie('a', '1'); setcookie('b', '2'); header('Set-Cookie: c=3', false); echo 'cookies'; break;
case 'length': header('Content-Length: 6'); echo 'length'; break;
case 'longer': header('Content-Length: 3'); echo 'longer'; break;
case 'shorter': header('Content-Length: 100'); echo 'shorter'; break;
case 'empty': break;
case 'bare': header_remove(); ini_set('default_mimetype', ''); header('X-A: b'); echo 'bare'; break;
case '204': http_response_code(204); break;
case '304': http_response_code(304); header('ETag: "x"'); break;
case 'accel': header('X-Accel-Redirect: /protected/x'); break;
case 'named': // a file, or whatever the query's fields say
    if (isset($_GET['code'])) { http_response_code((int)$_GET['code']); }
    foreach ($_GET['h'] as $h) { header($h, false); }
    echo str_repeat('a body that nobody sees ', (int)($_GET['n'] ?? 1)); break;
case 'sendfile': header('X-Sendfile: /etc/passwd'); break;
case 'hints': header('X-Accel-Buffering: no'); header('X-Accel-Expires: 0'); header('X-Accel-Limit-Rate: 1000000'); header('X-Accel-Charset: utf-8'); echo 'hints'; break;
case 'connection': header('Connection: close'); header('Keep-Alive: timeout=1'); echo 'connection'; break;
case 'fatal': undefined_function(); break;
case 'die': posix_kill(getmypid(), 9); break;
case 'complain': error_log('the script complains'); for ($i = 0; $i < 200; $i++) { error_log(str_repeat('x', 200)); } echo 'complained'; break;
case 'head': for ($i = 0; $i < 2000; $i++) { header("X-$i: " . str_repeat('y', 100)); } echo 'head'; break;
case 'slow': usleep((int)$_GET['ms'] * 1000); echo 'slow'; break;
case 'events':
    header('Content-Type: text/event-stream');
    for ($i = 0; $i < 3; $i++) {
        echo "data: $i\n\n";
        while (ob_get_level()) { ob_end_flush(); }
        flush();
        if (!empty($_GET['fifo'])) { $go ??= fopen($_GET['fifo'], 'r'); fgets($go); }
    }
    break;
case 'large': $n = (int)$_GET['mib']; $b = str_repeat("0123456789abcdef", 4096); for ($i = 0; $i < 16 * $n; $i++) { echo $b; } break;
case 'digest':
    $h = hash_init('md5'); $in = fopen('php://input', 'r'); $n = 0;
    while (($b = fread($in, 65536)) !== false && $b !== '') { $n += strlen($b); hash_update($h, $b); }
    echo $n, ' ', hash_final($h); break;
case 'echo': // speaks before it listens
    echo 'first '; while (ob_get_level()) { ob_end_flush(); } flush();
    echo md5(file_get_contents('php://input')); break;
case 'append': file_put_contents($_GET['file'], $_GET['id'] . "\n", FILE_APPEND | LOCK_EX); usleep(2000); echo 'appended'; break;
case 'finish': echo 'finished'; fastcgi_finish_request(); break;
case 'gone': ignore_user_abort(false); for ($i = 0; $i < 300; $i++) { echo str_repeat('z', 8192); flush(); usleep(1000); } file_put_contents($_GET['file'], 'end'); break;
default: echo 'ok';
}
