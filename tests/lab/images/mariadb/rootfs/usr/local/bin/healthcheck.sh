#!/bin/bash
# The official image's probe for `--connect --innodb_initialized`: the server accepts a connection over TCP (it does so only
# after InnoDB's start). "Access denied" is an answer too; the check holds no account.
exec mariadb-admin --no-defaults --protocol=tcp --host=127.0.0.1 --connect-timeout=3 ping
