#!/usr/bin/env bash
# Trains on the nodes of a Slurm cluster: one process a node, which takes all of its GPUs. The processes find each other
# by what Slurm tells them, so no flag says where they are. With the environment active in which dnabert is installed:
#
#     sbatch scripts/slurm.sh train dnabert6 --workdir /shared/dnabert6 --data.path /shared/genome
#     sbatch scripts/slurm.sh finetune promoter --workdir /shared/promoter --init /shared/dnabert6 ...
#
# Environment, workdir and data have to be on a file system that all nodes share. Two minutes before the time limit, or
# when Slurm takes the nodes away, the run saves and ends; then the job is queued again, and goes on from there.
#
# EDIT: what the cluster calls its nodes with GPUs, how many to take, what each of them has, and for how long.
#SBATCH --partition=gpu
#SBATCH --nodes=4
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
# From here on everything can stay as it is.
#SBATCH --job-name=dnabert
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail

asked_to_stop=75 # the run has saved
lost_another=69  # a process of the run is gone
most_losses=20

# What was compiled once is read when the job comes back.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/dnabert-jax}

# Processes end by themselves, each with its own status, and are not to be ended for what another one's status is. The
# number of cores has to be said again, since srun does not take it from the job.
status=0
srun --kill-on-bad-exit=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" dnabert "$@" || status=$?

# srun's status is the highest of all processes; 128 and more is that of one that a signal has ended.
if [ "$status" -eq "$asked_to_stop" ]; then
  scontrol requeue "$SLURM_JOB_ID"
elif [ "$status" -eq "$lost_another" ] || [ "$status" -ge 128 ]; then
  if [ "${SLURM_RESTART_COUNT:-0}" -lt "$most_losses" ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
exit "$status"
