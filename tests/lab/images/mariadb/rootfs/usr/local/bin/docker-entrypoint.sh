#!/bin/bash
# Starts MariaDB; the first time with the accounts and the database that the official image's environment variables name:
# MARIADB_ROOT_PASSWORD (or _ALLOW_EMPTY_ROOT_PASSWORD, _RANDOM_ROOT_PASSWORD), MARIADB_ROOT_HOST, MARIADB_DATABASE,
# MARIADB_USER, MARIADB_PASSWORD; each also as MYSQL_…, and with _FILE for a file that holds the value.
set -euo pipefail
data=/var/lib/mysql
empty=/usr/local/share/mysql-empty

fail() { echo "docker-entrypoint: $*" >&2; exit 1; }

# value NAME DEFAULT: MARIADB_NAME, MARIADB_NAME_FILE, MYSQL_NAME, MYSQL_NAME_FILE
value() {
  local prefix name file
  for prefix in MARIADB MYSQL; do
    name=${prefix}_$1 file=${prefix}_$1_FILE
    if [ -n "${!name:-}" ]; then printf %s "${!name}"; return; fi
    if [ -n "${!file:-}" ]; then printf %s "$(< "${!file}")"; return; fi
  done
  printf %s "$2"
}

literal() {    # an SQL string
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\'/\\\'}
  printf "'%s'" "${text//$'\n'/\\n}"
}

identifier() { printf '`%s`' "${1//\`/\`\`}"; }

accounts() {    # SQL that makes them, one statement a line
  local root_password root_host database user password
  root_password=$(value ROOT_PASSWORD '')
  root_host=$(value ROOT_HOST '%')
  database=$(value DATABASE '')
  user=$(value USER '')
  password=$(value PASSWORD '')
  if [ -z "$root_password" ] && [ -n "$(value RANDOM_ROOT_PASSWORD '')" ]; then
    root_password=$(head -c 24 /dev/urandom | base64)
    echo "docker-entrypoint: GENERATED ROOT PASSWORD: $root_password" >&2
  elif [ -z "$root_password" ] && [ -z "$(value ALLOW_EMPTY_ROOT_PASSWORD '')" ]; then
    fail 'database is uninitialized and password option is not specified: set MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD or MARIADB_RANDOM_ROOT_PASSWORD'
  fi
  [ -z "$user" ] || [ -n "$password" ] || fail 'MARIADB_USER is set but MARIADB_PASSWORD is not'
  [ "$user" != root ] || fail 'MARIADB_USER must not be root, which exists already; remove it'
  echo 'FLUSH PRIVILEGES;'    # bootstrap mode starts without the tables of accounts
  local host
  for host in localhost "$root_host"; do
    [ -n "$host" ] || continue
    echo "CREATE OR REPLACE USER 'root'@$(literal "$host") IDENTIFIED BY $(literal "$root_password");"
    echo "GRANT ALL ON *.* TO 'root'@$(literal "$host") WITH GRANT OPTION;"
  done
  [ -z "$database" ] || echo "CREATE DATABASE IF NOT EXISTS $(identifier "$database");"
  [ -n "$user" ] || return 0
  echo "CREATE USER $(literal "$user")@'%' IDENTIFIED BY $(literal "$password");"
  [ -z "$database" ] || echo "GRANT ALL ON $(identifier "${database//_/\\_}").* TO $(literal "$user")@'%';"
}

# The folder mysql/ comes last: a first start that was killed half-way is done again from the beginning.
initialise() {
  local new=$data/.initialising sql
  sql=$(accounts)
  rm -rf "$new"
  find "$data" -mindepth 1 -maxdepth 1 ! -name lost+found -print -quit | grep -q . && [ ! -e "$data/.kinstall-init" ] &&
    fail "$data is not empty and holds no database"
  : > "$data/.kinstall-init"
  find "$data" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name .kinstall-init -exec rm -rf {} +
  (umask 077; cp -R "$empty" "$new")
  mariadbd --datadir="$new" --bootstrap --skip-networking --skip-log-bin <<< "$sql" || fail 'cannot make the accounts'
  mv "$new/mysql" "$data/.mysql"
  find "$new" -mindepth 1 -maxdepth 1 -exec mv -t "$data" {} +
  rmdir "$new"
  mv "$data/.mysql" "$data/mysql"
  rm "$data/.kinstall-init"
}

case ${1:-} in -*) set -- mariadbd "$@" ;; esac
case ${1:-} in mariadbd | mysqld) ;; *) exec "$@" ;; esac

if [ "$(id -u)" = 0 ]; then
  mkdir -p /run/mysqld
  chown mysql:mysql /run/mysqld
  [ "$(stat -c %u "$data")" = "$(id -u mysql)" ] || chown mysql:mysql "$data"
  exec setpriv --reuid=mysql --regid=mysql --init-groups --inh-caps=-all "$0" "$@"
fi
[ -d "$data/mysql" ] || initialise
unset "${!MARIADB_@}" "${!MYSQL_@}"    # secrets do not stay in the server's environment
exec "$@"
