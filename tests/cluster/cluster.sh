#!/usr/bin/env bash
# A real Slurm cluster on this machine: two nodes, "node1" and "node2", with two (pretended) GPUs each.
#
#   bash cluster.sh install        Debian's packages of Slurm, if they are missing
#   bash cluster.sh start DIR      all daemons, their files in DIR; then: export SLURM_CONF=DIR/slurm.conf
#   bash cluster.sh stop DIR
#
# The nodes have names of their own by namespaces, so that nothing outside of DIR changes. Exit code 77: not possible
# here, and why.
set -euo pipefail
PATH=$PATH:/usr/sbin

PROGRAMS=(slurmctld slurmd sbatch munged mungekey)
NODES=(node1 node2)

cannot() {
  echo "cluster.sh: $1" >&2
  exit 77
}

check_root() {
  [[ $EUID -eq 0 ]] || cannot "a Slurm cluster for tests needs root"
  unshare --mount --uts true 2>/dev/null || cannot "a Slurm cluster for tests needs the right to make namespaces"
}

install() {
  check_root
  command -v "${PROGRAMS[@]}" >/dev/null && return
  command -v apt-get >/dev/null || cannot "Slurm is not installed, nor is apt-get, which could install it"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq install -y --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
}

write_config() {
  printf '127.0.0.1 localhost head %s\n' "${NODES[*]}" >"$dir/hosts"
  printf 'Name=gpu File=%s\n' /dev/null /dev/zero >"$dir/gres.conf"
  cat >"$dir/slurm.conf" <<END
ClusterName=test
SlurmctldHost=head(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SchedulerType=sched/backfill
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=60
MinJobAge=3600
ReturnToService=2
GresTypes=gpu
NodeName=node1 NodeAddr=127.0.0.1 Port=16818 CPUs=32 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
NodeName=node2 NodeAddr=127.0.0.1 Port=16819 CPUs=32 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
}

# Runs a daemon under a host name that only the cluster knows.
on() {
  unshare --mount --uts bash -c 'hostname "$1"; mount --bind "$0/hosts" /etc/hosts; shift; exec "$@"' "$dir" "$@"
}

start() {
  check_root
  command -v "${PROGRAMS[@]}" >/dev/null || cannot "Slurm is not installed: bash cluster.sh install"
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  export SLURM_CONF=$dir/slurm.conf
  write_config
  mungekey --create --keyfile "$dir/munge.key"
  munged --force --socket="$dir/munge.socket" --key-file="$dir/munge.key" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munged.seed" 2>"$dir/munged.warnings"
  on head slurmctld
  for node in "${NODES[@]}"; do on "$node" slurmd -N "$node"; done
  wait_until_idle
}

wait_until_idle() {
  for _ in {1..60}; do
    [[ $(sinfo --noheader --Node --states=idle 2>/dev/null | wc -l) -eq ${#NODES[@]} ]] && return
    sleep 0.5
  done
  tail -n 5 "$dir"/*.log >&2
  echo "cluster.sh: the nodes do not come up" >&2
  exit 1
}

# The jobs first: they outlive daemons that cannot be told of their end.
stop() {
  export SLURM_CONF=$dir/slurm.conf
  timeout 10 scancel --user=root --signal=KILL --full 2>/dev/null || true
  timeout 10 scancel --user=root 2>/dev/null || true
  for _ in {1..60}; do
    [[ -z $(timeout 10 squeue --noheader 2>/dev/null) ]] && break
    sleep 0.5
  done
  for name in slurmctld slurmd-node1 slurmd-node2 munged; do
    if [[ -s $dir/$name.pid ]]; then kill "$(cat "$dir/$name.pid")" 2>/dev/null || true; fi
  done
}

dir=${2:-}
case "${1:-} ${dir:+DIR}" in
  "install ") install ;;
  "start DIR") start ;;
  "stop DIR") stop ;;
  *) echo "usage: bash cluster.sh install | start DIR | stop DIR" >&2; exit 2 ;;
esac
