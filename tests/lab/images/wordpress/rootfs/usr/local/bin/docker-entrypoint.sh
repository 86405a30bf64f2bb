#!/bin/bash
# Puts WordPress into /var/www/html if that has none (index.php comes last: a killed copy is done again), writes wp-config.php
# that reads the official image's WORDPRESS_… variables, then starts the web server.
set -euo pipefail
site=/var/www/html
source=/usr/src/wordpress

case ${1:-} in apache2*) ;; *) exec "$@" ;; esac

owner=()
if [ "$(id -u)" = 0 ]; then
  chown www-data:www-data "$site"
  owner=(--preserve=ownership)
fi
if [ ! -e "$site/index.php" ] || [ ! -e "$site/wp-includes/version.php" ]; then
  rm -rf "$site/.copy"
  mkdir "$site/.copy"
  cp -R --preserve=mode "${owner[@]}" "$source"/. "$site/.copy"
  for name in $(ls -A "$site/.copy"); do
    [ "$name" = index.php ] || [ -e "$site/$name" ] || mv "$site/.copy/$name" "$site/$name"
  done
  [ -e "$site/index.php" ] || mv "$site/.copy/index.php" "$site/index.php"
  rm -rf "$site/.copy"
fi
if [ ! -s "$site/wp-config.php" ]; then
  secret=$(head -c 32 /dev/urandom | base64 | tr -dc 'A-Za-z0-9')
  sed "s/@secret@/$secret/" "$source/wp-config-docker.php" > "$site/.wp-config.new"
  [ "$(id -u)" != 0 ] || chown www-data:www-data "$site/.wp-config.new"
  mv "$site/.wp-config.new" "$site/wp-config.php"
fi
exec "$@"
