#!/bin/sh
# Every program of a host on paper is a link to this file. What it prints is written beside that host's root, by program; the test
# writes nothing that it runs, as a program that somebody holds open for writing, a thread's fork is enough, cannot be run.
. "${0%/usr/bin/*}/printed/${0##*/}.sh"
