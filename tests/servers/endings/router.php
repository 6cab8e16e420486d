<?php
// For `php -S`, which answers one request at a time.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/chunks') {
    for ($left = 20; $left > 0; $left--) {
        echo "chunk\n";
        flush();
        if ($left > 1) usleep(100000);
    }
} elseif ($path === '/big') {
    $piece = str_repeat('x', 1000000);
    header('Content-Length: 50000000');
    for ($left = 50; $left > 0; $left--) {
        echo $piece;
        flush();
    }
} else {
    if ($path === '/slow') usleep(1000 * (int) $_GET['ms']);
    echo getenv('REUSE_WORKER_ID') . ' ' . getmypid() . "\n";
}
