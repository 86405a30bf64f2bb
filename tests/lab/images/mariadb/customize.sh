#!/bin/bash
# From Debian with mariadb-server to the sample's database image. $1: the root.
set -euo pipefail
root=$1

# the official image's ids, for pods that set runAsUser or fsGroup
chroot "$root" groupmod --gid 999 mysql
chroot "$root" usermod --uid 999 mysql
rm -rf "$root/var/lib/mysql" "$root/run/mysqld" "$root"/var/log/mysql
install -d -o 999 -g 999 -m 0755 "$root/var/lib/mysql" "$root/run/mysqld" "$root/var/log/mysql"

# Debian's defaults listen on loopback only and log into files
rm -f "$root"/etc/mysql/mariadb.conf.d/*
cat > "$root/etc/mysql/mariadb.conf.d/50-container.cnf" <<'CNF'
[mariadbd]
user = mysql
datadir = /var/lib/mysql
socket = /run/mysqld/mysqld.sock
pid-file = /run/mysqld/mysqld.pid
bind-address = *
skip-name-resolve
host-cache-size = 0
character-set-server = utf8mb4
collation-server = utf8mb4_general_ci

[client]
socket = /run/mysqld/mysqld.sock
CNF

# A data folder as mariadb-install-db makes it, but with no account that anybody can use: a first start copies it
# (0.1 s) instead of making it (10 s). mariadb.sys is locked; the server's own views belong to it.
template=/usr/local/share/mysql-empty
chroot "$root" mariadb-install-db --no-defaults --force --user=mysql --datadir=$template --skip-test-db --skip-log-bin \
  --auth-root-authentication-method=normal --innodb-log-file-size=8M >/dev/null
printf "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';\nDELETE FROM mysql.proxies_priv WHERE Host <> 'localhost';\n" |
  chroot "$root" mariadbd --no-defaults --bootstrap --user=mysql --datadir=$template --innodb-log-file-size=8M 2>/dev/null
rm -f "$root$template"/{*.err,*.pid,ibtmp1,ddl_recovery.log,aria_log_control.bak}

chmod -R a+rX "$root$template"    # for pods that run as any user

# nothing here needs Perl; tools for files of stopped servers belong elsewhere
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/var/log/*.log "$root/usr/lib/udev/hwdb.d" \
  "$root"/usr/lib/x86_64-linux-gnu/perl/ "$root"/usr/share/perl/ "$root"/usr/share/perl5/ \
  "$root"/usr/bin/{mariadb-test*,mysql_embedded,aria_*,myisam*,innochecksum,mariadb-slap,mariadb-conv,replace}
