#!/bin/sh
# Runs in a build stage: gathers into /rootfs the files that Python programs need at run time, and nothing else.
#
#   rootfs.sh PROGRAM…     programs to take besides python3, by path
#
# Python, its modules and its libraries are Debian's own packages as installed in this stage. Shared libraries follow
# from what is left after pruning. Whose files are taken is noted where image scanners look for it, with the licences.
set -eu

root=/rootfs
python=$(readlink -f /usr/bin/python3)
stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
modules=/usr/lib/python3/dist-packages

# A usr-merged root with what every process may expect to find.
mkdir -p "$root/usr/bin" "$root/usr/lib64" "$root/etc" "$root/tmp" "$root/run" "$root$modules"
chmod 1777 "$root/tmp"
for link in bin lib lib64; do ln -s "usr/$link" "$root/$link"; done
printf 'root:x:0:0:root:/:/nologin\nnobody:x:65534:65534:nobody:/:/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
cp /etc/os-release "$root/etc/os-release"
authorities=/etc/ssl/certs/ca-certificates.crt
if [ -e "$authorities" ]; then mkdir -p "$root/etc/ssl/certs" && cp "$authorities" "$root$authorities"; fi

# Python with its standard library and what was installed beside it, less what only people and build tools use.
cp -P /usr/bin/python3 "$python" "$@" "$root/usr/bin/"
cp -R "$stdlib" "$root$stdlib"
[ ! -d "$modules" ] || cp -R "$modules" "$root/usr/lib/python3/"
(
  cd "$root$stdlib"
  rm -rf __phello__ _pyrepl config-* ctypes/macholib curses dbm ensurepip idlelib lib2to3 pydoc_data sqlite3 test \
    tkinter turtledemo unittest venv wsgiref xmlrpc
  rm -f LICENSE.txt EXTERNALLY-MANAGED __hello__.py antigravity.py cProfile.py doctest.py ftplib.py imaplib.py \
    mailbox.py modulefinder.py nntplib.py pdb.py poplib.py profile.py pstats.py pydoc.py smtplib.py this.py turtle.py \
    webbrowser.py zipapp.py
  cd lib-dynload
  rm -f _test* _xx* xx* _ctypes_test* _curses* _dbm* _gdbm* _lsprof* _sqlite3* _tkinter* readline* _codecs_*
)
(
  cd "$root$modules"
  rm -rf ./*-info anyio/_backends/_trio.py anyio/pytest_plugin.py bcrypt chardet colorama pytz/pytz
  find . -name '*.pyi' -delete
)

# The libraries that these name, theirs, and the loader.
find "$root/usr" -type f \( -name '*.so' -o -name '*.so.*' -o -perm -u+x \) -exec ldd {} + 2>/dev/null |
  sed -n 's/^[^/]*\(\/[^ ]*\) (0x[0-9a-f]*)$/\1/p' | sort -u |
  while read -r library; do
    target="$root$(readlink -f "$(dirname "$library")")"
    mkdir -p "$target"
    cp -L "$library" "$target/"
  done

# Byte code at the path where Python looks for it: the root is read-only when the program runs. The standard library's
# sources are left out: with them the image would be a third larger, and tracebacks name line numbers all the same.
find "$root" -name __pycache__ -prune -exec rm -rf {} +
python3 -m compileall -q -b -j 0 --invalidation-mode unchecked-hash -s "$root" "$root$stdlib"
find "$root$stdlib" -name '*.py' -delete
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$root" "$root$modules"

# Which packages, for scanners (the format of "distroless" images), and their licences.
mkdir -p "$root/var/lib/dpkg/status.d"
find "$root/usr" -type f ! -name '*.pyc' | sed "s|^$root||" | xargs dpkg -S 2>/dev/null |
  sed 's/[:,].*//' | sort -u |
  while read -r package; do
    dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
    licence=/usr/share/doc/$package/copyright # some packages share another's
    [ ! -e "$licence" ] || install -D -m 644 "$licence" "$root$licence"
  done
