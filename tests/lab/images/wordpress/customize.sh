#!/bin/bash
# From Debian with wordpress, Apache and PHP to the sample's web image. $1: the root.
set -euo pipefail
root=$1

# Debian spreads WordPress over /usr/share, /var/lib and /etc by links; a volume needs one plain folder
site=$root/usr/src/wordpress
mkdir -p "$root/usr/src" "$site"
chroot "$root" cp -rL --no-preserve=ownership /usr/share/wordpress/. /usr/src/wordpress/ 2>/dev/null || true    # one dangling link
rm -rf "$site/wp-config.php" "$root/usr/share/wordpress" "$root/var/lib/wordpress" "$root/etc/wordpress"
mkdir -p "$site/wp-content/uploads" "$site/wp-content/plugins"
[ -e "$site/wp-includes/version.php" ] && [ -e "$site/index.php" ]
cp "$root/usr/local/share/wp-config-docker.php" "$site/"
chroot "$root" chown -R www-data:www-data /usr/src/wordpress

rm -rf "$root/var/www/html"
install -d -o 33 -g 33 -m 0755 "$root/var/www/html"
cat > "$root/etc/apache2/conf-available/container.conf" <<'CONF'
ServerName localhost
ServerTokens Prod
PidFile /run/apache2/apache2.pid
ErrorLog /proc/self/fd/2
<Directory /var/www/html>
  AllowOverride All
</Directory>
# few processes at the start, more when they are needed: the sample is small
<IfModule mpm_prefork_module>
  StartServers 2
  MinSpareServers 1
  MaxSpareServers 4
  MaxRequestWorkers 64
</IfModule>
CONF
rm "$root/etc/apache2/conf-enabled/other-vhosts-access-log.conf"
sed -i -e 's#^\s*ErrorLog .*#ErrorLog /proc/self/fd/2#' -e 's#^\s*CustomLog .*#CustomLog /proc/self/fd/1 combined#' \
  "$root/etc/apache2/sites-available/000-default.conf"
chroot "$root" a2enmod -q rewrite expires
chroot "$root" a2enconf -q container

# PHP brings its own MySQL client, and nothing here needs Perl
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/var/log/*.log "$root/usr/lib/udev/hwdb.d" "$root/usr/share/javascript" \
  "$root"/usr/bin/{mariadb*,mysql*,my_print_defaults,resolveip} "$root"/usr/share/mysql \
  "$root"/usr/lib/x86_64-linux-gnu/{perl,libperl.so*} "$root"/usr/share/{perl,perl5}
