#!/bin/sh
# install-pinned REQUIREMENTS LEFT_OUT TORCH: fill /opt/venv with what a requirement file pins, less what LEFT_OUT names.
#
# The files are whole closures; what a build of torch for GPUs brings besides, torch itself pins. Byte code is compiled
# now: the image's root is read-only when it runs, and every process would compile for itself.
set -eu
requirements=$1 left_out=$2 torch=$3

if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi
# a wheel house that has torch is not looked past; as in requirements/install.py
if [ -n "$torch" ] && ! ls /wheels/torch-*.whl >/dev/null 2>&1; then set -- "--torch-backend=$torch"; else set --; fi

sed 's/#.*//; s/[[:space:]]*$//; /^$/d; s/^/^/; s/$/==/' "$left_out" > /tmp/left-out
grep -v -f /tmp/left-out "$requirements" > /tmp/pinned
/opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --compile-bytecode --quiet \
  --find-links /wheels "$@" -r /tmp/pinned
rm /tmp/left-out /tmp/pinned
