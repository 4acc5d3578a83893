<?php
$refused = '';
if ($action == 'logout') {
	logout();
	header('Location: index.php?page=login&msg=bye');
	exit;
}
if ($action == 'login') {
	$result = login(input('name'), input('password'), input('token'));
	if ($result === true) {
		header('Location: index.php?page=map&match=' . $_SESSION['match_id'] . '&msg=welcome');
		exit;
	}
	$refused = $result;
}
$player = null;
page_header('login', 'Log in');
if ($refused) echo '<div class="error" data-error="' . $refused . '">' . $messages_error[$refused] . "</div>\n";
?>
<form id="login" method="post" action="index.php?page=login&amp;action=login">
<?php echo token_field() ?>

Name <input name="name" value="<?php echo h(input('name')) ?>"> Password <input type="password" name="password"> <input type="submit" value="Log in">
</form>
<?php page_footer();
