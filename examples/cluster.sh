#!/usr/bin/env bash
# A cluster of processes on this machine: an S3 server, three indexers, two query nodes, and nginx in front.
#
#   examples/cluster.sh            run until Ctrl-C
#   examples/cluster.sh --check    write and search through nginx, and end
#   --port N                       port of nginx (8080); the nodes take the five ports after it
#
# With ELACSYM_STORAGE and AWS_* the data lies in that bucket. Otherwise moto keeps it in memory, for this run only;
# it comes with `pip install -e '.[test]'`.
set -euo pipefail
cd "$(dirname "$0")/.."

port=8080 is_check=""
while [ $# -gt 0 ]; do
  case $1 in
    --check) is_check=yes ;;
    --port) port=${2:?"--port needs a number"}; shift ;;
    *) echo "unknown option $1; see the first lines of $0" >&2; exit 2 ;;
  esac
  shift
done

# nodes of this machine only, without keys; other settings of the environment are theirs too
unset ELACSYM_API_KEYS ELACSYM_HOST ELACSYM_NODES ELACSYM_TOTAL_NODES ELACSYM_NODE_INDEX ELACSYM_CONFIG

nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || { echo "nginx is not installed" >&2; exit 1; }
command -v elacsym > /dev/null || { echo "elacsym is not installed: pip install -e '.[test]'" >&2; exit 1; }
python=$(command -v python || command -v python3)
folder=$(mktemp -d)
pids=() s3=()

stop() {
  local code=$?
  trap - EXIT INT TERM
  # the nodes, which finish what they have begun, before the store that they write to
  for group in "${pids[*]:${#s3[@]}}" "${s3[*]}"; do
    [ -n "$group" ] || continue
    kill $group 2> /dev/null || true
    wait $group 2> /dev/null || true
  done
  if [ "$code" = 0 ] || [ "$code" = 130 ]; then rm -rf "$folder"; else echo "logs: $folder" >&2; fi
  exit "$code"
}
trap stop EXIT
trap 'exit 130' INT TERM

run() { # NAME COMMAND…: in the background, its output in a file of that name
  local name=$1
  shift
  # a group of its own: Ctrl-C is for this script, which stops them in order
  setsid "$@" > "$folder/$name.log" 2>&1 < /dev/null &
  pids+=($!)
}

await() { # WHAT COMMAND…: until the command succeeds
  local what=$1 end=$((SECONDS + 60))
  shift
  until "$@" > /dev/null 2>&1; do
    for pid in "${pids[@]}"; do
      kill -0 "$pid" 2> /dev/null || { echo "a process ended before $what" >&2; tail -n 5 "$folder"/*.log >&2; exit 1; }
    done
    [ $SECONDS -lt $end ] || { echo "$what: not within 60 s" >&2; tail -n 5 "$folder"/*.log >&2; exit 1; }
    sleep 0.2
  done
}

fetch() { curl --fail --silent --show-error --noproxy '*' --max-time 30 "$@"; }

if [ -z "${ELACSYM_STORAGE:-}" ]; then
  run s3 "$python" -u tests/crash/moto_server.py
  s3=("${pids[0]}")
  await "the S3 server listens" grep -q http "$folder/s3.log"
  AWS_ENDPOINT_URL=$(grep -o -m 1 'http://[^ ]*' "$folder/s3.log")
  export AWS_ENDPOINT_URL ELACSYM_STORAGE=s3://elacsym/data
  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_REGION=us-east-1
  "$python" examples/create_bucket.py > /dev/null
fi

nodes=(indexer-0 indexer-1 indexer-2 query-0 query-1)
flags=()
for i in "${!nodes[@]}"; do
  node=${nodes[i]} url=http://127.0.0.1:$((port + 1 + i))
  run "$node" env ELACSYM_NODE_ID="$node" ELACSYM_NODE_TYPE="${node%-*}" ELACSYM_ADVERTISE_URL="$url" \
    ELACSYM_FORWARD=true ELACSYM_PORT=$((port + 1 + i)) ELACSYM_CACHE_PATH="$folder/cache-$node" elacsym serve
  case $node in
    indexer-*) flags+=(--indexer "$url") ;;
    query-*) flags+=(--query-node "$url") ;;
  esac
done
mkdir "$folder/nginx"
elacsym cluster nginx "${flags[@]}" --listen "127.0.0.1:$port" > "$folder/nginx/nginx.conf"
user=""
[ "$(id -u)" != 0 ] || user="user root;"
run nginx "$nginx" -e stderr -p "$folder/nginx" -c "$folder/nginx/nginx.conf" -g "daemon off; $user"

front=http://127.0.0.1:$port
for i in "${!nodes[@]}"; do
  await "${nodes[i]} is ready" fetch "http://127.0.0.1:$((port + 1 + i))/readyz"
done
await "nginx is ready" fetch "$front/nginx/health"
all_are_live() { [ "$(fetch "$1/v1/cluster" | grep -o '"health":"live"' | wc -l)" = ${#nodes[@]} ]; }
for i in "${!nodes[@]}"; do
  await "${nodes[i]} knows the others" all_are_live "http://127.0.0.1:$((port + 1 + i))"
done

if [ -z "$is_check" ]; then
  echo "cluster  $front"
  for i in "${!nodes[@]}"; do
    echo "${nodes[i]}  http://127.0.0.1:$((port + 1 + i))  process ${pids[i + ${#s3[@]}]}"
  done
  echo "logs  $folder"
  echo "Ctrl-C ends it."
  # nodes may die meanwhile: that is what a cluster is for
  wait "${pids[-1]}"
  echo "nginx ended" >&2
  exit 1
fi

elacsym cluster --url "$front"
written=0
for name in apples pears plums quinces; do
  api=$front/v1/namespaces/check-$name-$$
  fetch -X PUT "$api" -d '{"schema": {"vector_dim": 2, "attributes": {"title": {"type": "string", "full_text": true}}}}' > /dev/null
  fetch "$api/upsert" -d '{"documents": [{"id": 1, "vector": [1, 0], "attributes": {"title": "'"$name"' in a bucket"}}]}' > /dev/null
  # strong, by every node and by nginx
  for url in "$front" "${flags[@]}"; do
    case $url in http*) ;; *) continue ;; esac
    fetch "$url/v1/namespaces/check-$name-$$/query" -d '{"full_text": {"field": "title", "query": "bucket"}}' \
      | grep -q '"id":1' || { echo "$url does not find what was written" >&2; exit 1; }
  done
  fetch -X DELETE "$api" > /dev/null
  written=$((written + 1))
done
echo "$written namespaces written, found by all nodes, and deleted"
