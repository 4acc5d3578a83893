<?php
/**
 * Ties a row in the binlog to the request that wrote it.
 *
 * banyan sends each write to PHP with the field "Banyan-Write: <id>". MariaDB keeps the text of a
 * statement, comments included, beside its rows in the binlog (binlog_annotate_row_events, on by
 * default); MySQL does with binlog_rows_query_log_events=ON. So one line in the function through
 * which all SQL goes is enough:
 *
 *     require_once 'banyan.php';
 *     ...
 *     $sql = banyan_sql($sql);
 *
 * Without the field, or with one that is no id, the SQL is returned as it is. Nothing is kept
 * between requests, nothing is sent anywhere, and nothing here can fail. PHP 7.2 or newer.
 */

/**
 * The id of the write that this request is, or '' if it is none.
 *
 * The id ends up inside a comment in SQL, so it is taken only if it cannot end that comment.
 */
function banyan_write_id(): string
{
    $id = $_SERVER['HTTP_BANYAN_WRITE'] ?? '';
    return is_string($id) && preg_match('/\A[A-Za-z0-9._-]{1,100}\z/', $id) === 1 ? $id : '';
}

/** The statement with the write's id in front of it. */
function banyan_sql(string $sql): string
{
    $id = banyan_write_id();
    return $id === '' ? $sql : '/*banyan:id=' . $id . '*/ ' . $sql;
}
