<?php
// A foreign script: it tells what PHP sees of a request, and answers in the ways that applications answer.
$here = (empty($_SERVER['HTTPS']) ? 'http' : 'https') . '://' . $_SERVER['HTTP_HOST'];
switch ($_GET['do'] ?? '') {
case 'redirect':
    header('Location: ' . ($_GET['to'] ?? $here . '/index.php?page=map'), true, (int) ($_GET['status'] ?? 302));
    exit;
case 'cookies':
    for ($i = 0; $i < 18; $i++) {
        setcookie("c$i", "v $i", ['path' => '/', 'httponly' => true, 'secure' => !empty($_SERVER['HTTPS'])]);
    }
    break;
case 'gone':
    http_response_code(404);
    break;
case 'broken':
    http_response_code(500);
    exit;
case 'empty':
    http_response_code(204);
    exit;
case 'big':
    header('Content-Type: text/plain');
    for ($i = 0; $i < 4096; $i++) {
        echo str_repeat(chr(97 + $i % 26), 255), "\n";
        if ($i % 512 == 0) {
            flush();
        }
    }
    exit;
case 'length':
    header('Content-Length: 5');
    exit('12345');
case 'session':
    session_start(['use_strict_mode' => true]);
    $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
    exit((string) $_SESSION['n']);
}
header('Content-Type: application/json');
$server = array_filter($_SERVER, fn ($name) => strpos($name, 'REQUEST_TIME') !== 0, ARRAY_FILTER_USE_KEY);
ksort($server);
$files = [];
foreach ($_FILES as $name => $f) {
    $files[$name] = [$f['name'], $f['type'], $f['size'], $f['error'], $f['error'] ? '' : md5_file($f['tmp_name'])];
}
$input = file_get_contents('php://input');
echo json_encode(['server' => $server, 'get' => $_GET, 'post' => $_POST, 'cookie' => $_COOKIE, 'files' => $files, 'input' => [strlen($input), md5($input)],
    'here' => $here], JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES | JSON_PRETTY_PRINT);
