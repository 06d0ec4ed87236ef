#!/bin/sh
# install-pinned REQUIREMENTS LEFT_OUT TORCH: fill /opt/venv with what a requirement file pins, less what LEFT_OUT names.
#
# The files are whole closures; what a build of torch for GPUs brings besides, torch itself pins. Byte code is compiled
# now: the image's root is read-only when it runs, and every process would compile for itself.
set -eu
requirements=$1 left_out=$2 torch=$3
set --

if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi
# PyPI's torch for Linux is the build for GPUs. A wheel house that has torch is not looked past, as in requirements/install.py;
# for GPUs it is not looked into: its torch, of a local version, would win over the right one.
case $torch in
  cuda) ;;
  cpu) ls /wheels/torch-*.whl >/dev/null 2>&1 || set -- --torch-backend=cpu; set -- "$@" --find-links /wheels ;;
  '') set -- --find-links /wheels ;;
  *) set -- "--torch-backend=$torch" ;;
esac

sed 's/#.*//; s/[[:space:]]*$//; /^$/d; s/^/^/; s/$/==/' "$left_out" > /tmp/left-out
grep -v -f /tmp/left-out "$requirements" > /tmp/pinned
/opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --compile-bytecode --quiet \
  "$@" -r /tmp/pinned
rm /tmp/left-out /tmp/pinned

if [ -n "$torch" ]; then
  made_for=$(/opt/venv/bin/python -c 'import torch; print("cuda" if torch.version.cuda else "cpu")')
  case "$torch/$made_for" in
    cpu/cpu | cuda/cuda | cu[0-9]*/cuda) ;;
    *) echo "a build of torch for $torch was asked for, and one for $made_for was installed" >&2; exit 1 ;;
  esac
fi
