#!/usr/bin/env bash
# A batch job on a Slurm cluster: one Ray node on each machine, the driver on the first.
#
#   sbatch deploy/slurm.sh s3://bucket/photos s3://bucket/data Qwen/Qwen2.5-VL-7B-Instruct
#
# Source and output may be folders too, on a file system that every node sees. A job that is preempted is requeued and
# continues, because everything that it knows is in the output folder; after a time limit, submit the same line again.
#
# Not tested on a Slurm cluster: written after Ray's documented way of starting nodes with srun. What was tested is its
# part on one machine: `ray start --head --block` in the background, then a driver that joins it by RAY_ADDRESS and a
# token.
#SBATCH --job-name=synthgen
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-task=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60            # a minute before the end: the driver finishes and commits what is begun
#SBATCH --open-mode=append
#SBATCH --output=synthgen-%j.log
set -euo pipefail

source_uri=$1
out=$2
model=$3
gpus=4                                # of each node, as above: one tagging worker a GPU, then one engine a GPU
cpus=$SLURM_CPUS_PER_TASK             # of each node, as above; since Slurm 22.05 srun wants to be told again, or gives one core

source .venv/bin/activate             # where `make install` was run, on a file system that every node sees
ulimit -n "$(ulimit -Hn)"             # Ray holds thousands of files open

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_ADDRESS="$head:6379"       # `synth run` joins this cluster
export RAY_AUTH_MODE=token            # whoever may talk to a Ray cluster may run code on it
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
others=$((SLURM_JOB_NUM_NODES - 1))

srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$head" \
    ray start --head --port=6379 --num-cpus="$cpus" --num-gpus="$gpus" --block &
until ray health-check --address "$RAY_ADDRESS" 2>/dev/null; do sleep 2; done
if [ "$others" -gt 0 ]; then
    srun --nodes="$others" --ntasks="$others" --cpus-per-task="$cpus" --exclude="$head" \
        ray start --address="$RAY_ADDRESS" --num-cpus="$cpus" --num-gpus="$gpus" --block &
fi

# Workers start as nodes join. When this ends, the job ends, and Slurm ends what it started.
all=$((gpus * SLURM_JOB_NUM_NODES))
synth run "$source_uri" --out "$out" --model "$model" \
    --set tag.workers="$all" --set tag.gpus=1 --set generate.engine.replicas="$all" --set pack.workers="$SLURM_JOB_NUM_NODES" &
driver=$!
trap 'kill -TERM "$driver"' TERM      # Slurm tells this shell alone; the nodes must live until the driver is done with them
wait "$driver" || wait "$driver"      # the first is cut short by the signal
