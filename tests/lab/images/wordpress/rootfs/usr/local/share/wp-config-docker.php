<?php
// Settings from the environment, as the official image takes them; NAME_FILE names a file that holds the value.
function kinstall_env(string $name, string $default): string
{
    $file = getenv($name . '_FILE');
    if ($file !== false && $file !== '') {
        return rtrim(file_get_contents($file), "\r\n");
    }
    $value = getenv($name);
    return $value === false ? $default : $value;
}

define('DB_NAME', kinstall_env('WORDPRESS_DB_NAME', 'wordpress'));
define('DB_USER', kinstall_env('WORDPRESS_DB_USER', 'example username'));
define('DB_PASSWORD', kinstall_env('WORDPRESS_DB_PASSWORD', 'example password'));
define('DB_HOST', kinstall_env('WORDPRESS_DB_HOST', 'mysql'));
define('DB_CHARSET', kinstall_env('WORDPRESS_DB_CHARSET', 'utf8mb4'));
define('DB_COLLATE', kinstall_env('WORDPRESS_DB_COLLATE', ''));

// @secret@ is replaced by a random text when this file is copied to the site
foreach (['AUTH_KEY', 'SECURE_AUTH_KEY', 'LOGGED_IN_KEY', 'NONCE_KEY', 'AUTH_SALT', 'SECURE_AUTH_SALT', 'LOGGED_IN_SALT', 'NONCE_SALT'] as $key) {
    define($key, kinstall_env('WORDPRESS_' . $key, hash('sha256', $key . '@secret@')));
}

$table_prefix = kinstall_env('WORDPRESS_TABLE_PREFIX', 'wp_');
define('WP_DEBUG', (bool) kinstall_env('WORDPRESS_DEBUG', ''));

// behind a proxy that ends TLS
if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') {
    $_SERVER['HTTPS'] = 'on';
}

if ($extra = kinstall_env('WORDPRESS_CONFIG_EXTRA', '')) {
    eval($extra);
}

if (!defined('ABSPATH')) {
    define('ABSPATH', __DIR__ . '/');
}
require_once ABSPATH . 'wp-settings.php';
