<?php
// A WebSocket server as people write them in PHP: one process, `php websocket.php host:port`. It echoes messages, and
// answers what is no handshake with the fields that it saw.
$server = stream_socket_server("tcp://$argv[1]", $errno, $error) or die("$error\n");
$clients = [];
while (true) {
    $readable = array_map(fn($c) => $c->socket, $clients);
    $readable[-1] = $server;
    $none = null;
    stream_select($readable, $none, $none, null);
    foreach ($readable as $id => $socket) {
        if ($id === -1) {
            $new = stream_socket_accept($server);
            $clients[(int) $new] = (object) ['socket' => $new, 'in' => '', 'switched' => false];
            continue;
        }
        $client = $clients[$id];
        $bytes = fread($socket, 65536);
        $client->in .= $bytes;
        if ($bytes === '' || $bytes === false || !($client->switched ? frames($client) : heads($client))) {
            fclose($socket);
            unset($clients[$id]);
        }
    }
}

function heads($client)
{
    while (($end = strpos($client->in, "\r\n\r\n")) !== false && !$client->switched) {
        $head = substr($client->in, 0, $end);
        $client->in = substr($client->in, $end + 4);
        $field = fn($name) => preg_match("/^$name: *(.*?)\r?$/mi", $head, $m) ? $m[1] : '';
        if (strcasecmp($field('Upgrade'), 'websocket') !== 0) {
            $seen = 'upgrade=' . $field('Upgrade') . ' connection=' . $field('Connection');
            fwrite($client->socket, "HTTP/1.1 200 OK\r\nContent-Length: " . strlen($seen) . "\r\n\r\n$seen");
        } elseif ($field('Sec-WebSocket-Version') !== '13') {
            fwrite($client->socket, "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n");
        } else {
            $accept = base64_encode(sha1($field('Sec-WebSocket-Key') . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11', true));
            fwrite($client->socket, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: $accept\r\n\r\n" . frame(1, 'welcome'));
            $client->switched = true;
            return frames($client);
        }
    }
    return true;
}

function frames($client)
{
    while (strlen($client->in) >= 2) {
        $op = ord($client->in[0]) & 15;
        [$length, $at] = [ord($client->in[1]) & 127, 2];
        if ($length >= 126) {
            $size = $length === 126 ? 2 : 8;
            if (strlen($client->in) < 2 + $size) {
                return true;
            }
            [$length, $at] = [unpack($size === 2 ? 'n' : 'J', substr($client->in, 2, $size))[1], 2 + $size];
        }
        if (strlen($client->in) < $at + 4 + $length) {
            return true;
        }
        $mask = substr($client->in, $at, 4);
        $data = substr($client->in, $at + 4, $length) ^ str_pad('', $length, $mask);
        $client->in = substr($client->in, $at + 4 + $length);
        $answer = frame($op === 9 ? 10 : $op, $data);
        for ($sent = 0; $sent < strlen($answer); $sent += $n) {
            if (($n = fwrite($client->socket, substr($answer, $sent))) === false) {
                return false;
            }
        }
        if ($op === 8) {
            return false;
        }
    }
    return true;
}

function frame($op, $data)
{
    $n = strlen($data);
    return chr(128 | $op) . ($n < 126 ? chr($n) : ($n < 65536 ? pack('Cn', 126, $n) : pack('CJ', 127, $n))) . $data;
}
