#!/bin/bash
# Tries reuse-ctl in a container of Podman's with Podman's own seccomp profile: doctor, run, reload, drain, scale, stop.
#
#   sudo docs/containers-trial.sh target/release/reuse-ctl [OPTION OF PODMAN RUN]…
#
# The root file system is this machine's /usr, read-only, so nothing is fetched. Without SYS_ADMIN:
#
#   sudo RIGHTS="BPF PERFMON" docs/containers-trial.sh target/release/reuse-ctl --security-opt seccomp=reuse-ctl.json
set -eu
binary=$(realpath "$1")
shift
root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{usr,proc,sys,dev,etc,opt,tmp,run,var/log,root}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' > "$root/etc/passwd"
cp "$binary" "$root/opt/reuse-ctl"
cat > "$root/opt/inside.sh" <<'INSIDE'
ctl=/opt/reuse-ctl
failures=0
step() { if "$@" > /tmp/said 2>&1; then echo "ok: $*"; else echo "FAILED: $*"; cat /tmp/said; failures=1; fi; }
grep -E '^(Seccomp|CapEff):' /proc/self/status
step $ctl doctor
$ctl run --name trial --workers 3 --user nobody -- /usr/bin/python3 -m http.server 8080 --bind 127.0.0.1 --directory /opt > /tmp/run.log 2>&1 &
active() { [ "$($ctl status --app trial 2>/dev/null | grep -c ' active ')" = 3 ]; }
for _ in $(seq 100); do active && break; kill -0 $! 2>/dev/null || break; sleep 0.2; done
active || { cat /tmp/run.log; exit 1; }
( answered=0 failed=0
  while [ ! -e /tmp/enough ]; do
    if /usr/bin/curl -sf -m 5 -o /dev/null http://127.0.0.1:8080/inside.sh; then answered=$((answered + 1)); else failed=$((failed + 1)); fi
  done
  echo "requests: $answered answered, $failed failed" > /tmp/load ) &
load=$!
for verb in reload "drain 1" "undrain 1" "scale 4" "get 2 /inside.sh"; do step $ctl $verb --app trial; done
touch /tmp/enough
wait $load
cat /tmp/load
step $ctl stop --app trial
exit $failures
INSIDE
rights=()
for right in ${RIGHTS:-SYS_ADMIN}; do rights+=(--cap-add "$right"); done
podman run --rm --network none --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw -v /sys/fs/bpf:/sys/fs/bpf:rw \
  --cap-drop ALL "${rights[@]}" --cap-add NET_ADMIN --cap-add SYS_PTRACE --cap-add SETUID --cap-add SETGID \
  --cap-add KILL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add NET_BIND_SERVICE \
  --tmpfs /run --tmpfs /tmp --tmpfs /var/log -v /usr:/usr:ro "$@" --rootfs "$root" /bin/bash /opt/inside.sh
