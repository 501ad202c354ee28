#!/bin/sh
# Starts normgauge in the image. numba reads its cache only where it may write too, which is nowhere in an image that is
# read-only: what was compiled when the image was built is copied from beside this script to where it may.
set -eu

kernels="$(dirname "$0")/kernels"
case "${1:-}" in
    serve | assess | drift) profiles=yes ;;
    *) profiles=no ;;
esac
if [ "$profiles" = yes ] && [ -n "${NUMBA_CACHE_DIR:-}" ] && [ ! -e "$NUMBA_CACHE_DIR" ]; then
    { mkdir -p "$NUMBA_CACHE_DIR" && cp -R "$kernels/." "$NUMBA_CACHE_DIR/" && chmod -R u+w "$NUMBA_CACHE_DIR"; } \
        || echo "the compiled kernel of the image could not be copied to $NUMBA_CACHE_DIR: it is compiled again" >&2
fi
exec normgauge "$@"
