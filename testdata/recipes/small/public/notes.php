<?php
// A guest book: GET shows a book, POST adds a note.
$db = mysqli_connect(getenv('NOTES_HOST'), getenv('NOTES_USER'), getenv('NOTES_PASS'), getenv('NOTES_DB'), (int) getenv('NOTES_PORT'));
$db->set_charset('utf8mb4');
$book = (int) ($_REQUEST['book'] ?? 0);
if ($_SERVER['REQUEST_METHOD'] == 'POST') {
    if ($book < 1 || trim($_POST['body'] ?? '') == '') {
        exit('<p class="error">Please write something.</p>'); // with status 200
    }
    $db->query("INSERT INTO notes (book, author, body) VALUES ($book, '" . $db->real_escape_string($_POST['author'] ?? 'anonymous') . "', '"
        . $db->real_escape_string($_POST['body']) . "')");
    header("Location: notes.php?book=$book&added=" . $db->insert_id, true, 303);
    exit;
}
foreach ($db->query("SELECT * FROM notes WHERE book = $book ORDER BY id") as $note) {
    echo '<p><b>', htmlspecialchars($note['author']), '</b>: ', htmlspecialchars($note['body']), "</p>\n";
}
