#!/usr/bin/env bash
# A real Apache Kafka on this machine, without Docker: for development and for the tests. Loopback only; not for a hospital.
# It needs Java 17 and Maven. Everything it makes lies in one folder (--data), which `stop --remove` takes away again.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: kafka.sh start  [--data DIR] [--port N] [--brokers 1|3] [--certificates DIR] [--beside PORT] [--while PID]
       kafka.sh again N [--data DIR]
       kafka.sh stop   [--data DIR] [--remove]
       kafka.sh status [--data DIR]
       kafka.sh jars | checksums

start prints the bootstrap address; it is ready then. With --certificates it also prints the listeners SSL and SASL_SSL.
again starts broker N of a cluster once more, after somebody has killed it, and returns when it takes connections.
  --data DIR          where the broker keeps its files (default .cache/kafka/data below the project)
  --port N            first port (default 9092; 0 takes free ones)
  --brokers 3         a cluster of three, replication 3, min.insync.replicas 2
  --certificates DIR  ca.pem and broker.pem (key and certificate, names localhost and 127.0.0.1); the SASL user is
                      $KAFKA_SASL_USER with $KAFKA_SASL_PASSWORD (letters and digits)
  --beside PORT       one more listener, BESIDE, whose clients are told this port: where a proxy stands that cuts them off
  --while PID         stop and remove everything when that process has ended
KAFKA_HEAP_OPTS sets the memory of a broker (-Xms256m -Xmx512m).
jars fetches the broker's jars and compares them with jars.sha256; checksums writes that list anew after a change of version.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${EMR_KAFKA_CACHE:-$root/.cache/kafka}
data=$cache/data
first_port=9092
brokers=1
certificates=
beside=
parent=
remove=

die() { echo "kafka.sh: $1" >&2; exit "${2:-2}"; }

command=${1:-help}
[ $# -gt 0 ] && shift
node=
[ "$command" != again ] || { node=${1:-}; shift; }
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=$2; shift 2 ;;
    --port) first_port=$2; shift 2 ;;
    --brokers) brokers=$2; shift 2 ;;
    --certificates) certificates=$(cd "$2" && pwd); shift 2 ;;
    --beside) beside=$2; shift 2 ;;
    --while) parent=$2; shift 2 ;;
    --remove) remove=yes; shift ;;
    *) usage >&2; die "what is $1?" ;;
  esac
done
[ "$brokers" = 1 ] || [ "$brokers" = 3 ] || die "--brokers is 1 or 3"

tool() { java -cp "$cache/jars/*" -Dlog4j2.configurationFile="$here/log4j2.properties" "$@"; }

fetch() { # one process at a time: two test runs may start together
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if ! verified; then
    command -v mvn >/dev/null || die "Maven is not there; it fetches the broker's jars (54 MB, once)"
    rm -rf "$cache/jars"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/jars" >"$cache/maven.log" 2>&1 \
      || die "Maven could not fetch the jars; see $cache/maven.log"
    [ "$1" = unchecked ] || verified || die "the jars differ from jars.sha256; do not use them" 4
  fi
  exec 9>&-
}

verified() { # every listed jar is there and right, and no other is
  [ -f "$here/jars.sha256" ] && [ -d "$cache/jars" ] || return 1
  [ "$(ls "$cache/jars" | sort)" = "$(awk '{print $2}' "$here/jars.sha256" | sort)" ] || return 1
  (cd "$cache/jars" && sha256sum --quiet --check "$here/jars.sha256") >/dev/null 2>&1
}

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

declare -A taken=()
port() { # sets $found: the next port, or any free one
  if [ "$first_port" != 0 ]; then
    found=$first_port; first_port=$((first_port + 1))
    is_free "$found" || die "port $found is taken; stop what listens there, or give --port 0"
    return
  fi
  while :; do
    found=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    if [ -z "${taken[$found]:-}" ] && is_free "$found"; then taken[$found]=yes; return; fi
  done
}

running() { # pids of our brokers that live
  local file pid
  for file in "$data"/broker-*.pid; do
    [ -f "$file" ] || continue
    pid=$(<"$file")
    if kill -0 "$pid" 2>/dev/null && grep -qs kafka.Kafka "/proc/$pid/cmdline"; then echo "$pid"; fi
  done
}

start() {
  command -v java >/dev/null || die "Java is not there; Kafka needs 17 or newer"
  [ -z "$(running)" ] || die "a broker runs already on $data: $(head -1 "$data/listeners")" 4
  fetch checked
  rm -rf "$data"
  mkdir -p "$data"
  chmod 700 "$data"
  data=$(cd "$data" && pwd)
  local node ports=() controllers=() more=() voters="" bootstrap="" ssl="" sasl="" replicas=1 min_isr=1
  [ "$brokers" = 3 ] && { replicas=3; min_isr=2; }
  for node in $(seq "$brokers"); do
    port; ports+=("$found"); bootstrap+="${bootstrap:+,}127.0.0.1:$found"
    if [ -n "$certificates" ]; then
      port; ssl+="${ssl:+,}127.0.0.1:$found"; more+=(",SSL://127.0.0.1:$found")
      port; sasl+="${sasl:+,}127.0.0.1:$found"; more[node - 1]+=",SASL_SSL://127.0.0.1:$found"
    fi
  done
  for node in $(seq "$brokers"); do
    port; controllers+=("$found"); voters+="${voters:+,}$node@127.0.0.1:$found"
  done
  local proxied=""
  if [ -n "$beside" ]; then port; proxied=",BESIDE://127.0.0.1:$found"; fi
  local cluster scram=()
  cluster=$(tool kafka.tools.StorageTool random-uuid 2>"$data/format.log") || die "Java could not run Kafka; see $data/format.log"
  if [ -n "$certificates" ]; then
    : "${KAFKA_SASL_USER:?}" "${KAFKA_SASL_PASSWORD:?}"
    scram=(--add-scram "SCRAM-SHA-512=[name=$KAFKA_SASL_USER,password=$KAFKA_SASL_PASSWORD]"
      --add-scram "SCRAM-SHA-256=[name=$KAFKA_SASL_USER,password=$KAFKA_SASL_PASSWORD]")
  fi
  for node in $(seq "$brokers"); do
    (umask 077; cat "$here/server.properties.template" ${certificates:+"$here/security.properties.template"} | sed \
      -e "s|@NODE@|$node|g; s|@VOTERS@|$voters|g; s|@PORT@|${ports[node - 1]}|g; s|@CONTROLLER_PORT@|${controllers[node - 1]}|g" \
      -e "s|@MORE_LISTENERS@|${more[node - 1]:-}$proxied|g; s|@MORE_ADVERTISED@|${more[node - 1]:-}${beside:+,BESIDE://127.0.0.1:$beside}|g; s|@DATA@|$data|g; s|@REPLICAS@|$replicas|g; s|@MIN_ISR@|$min_isr|g" \
      -e "s|@CERTIFICATES@|$certificates|g; s|@USER@|${KAFKA_SASL_USER:-}|g; s|@PASSWORD@|${KAFKA_SASL_PASSWORD:-}|g" \
      >"$data/server-$node.properties")
    [ "$brokers" = 1 ] || printf 'broker.heartbeat.interval.ms=500\nbroker.session.timeout.ms=4000\n' >>"$data/server-$node.properties"
    tool kafka.tools.StorageTool format -t "$cluster" -c "$data/server-$node.properties" "${scram[@]}" \
      >>"$data/format.log" 2>&1 || { tail -5 "$data/format.log" >&2; die "the data folder could not be formatted"; }
  done
  for node in $(seq "$brokers"); do launch "$node"; done
  { echo "$bootstrap"; [ -z "$ssl" ] || printf 'SSL %s\nSASL_SSL %s\n' "$ssl" "$sasl"; } >"$data/listeners"
  [ -z "$proxied" ] || echo "BESIDE ${proxied#,BESIDE://}" >>"$data/listeners"
  await "$bootstrap"
  [ -z "$parent" ] || watch &
  cat "$data/listeners"
}

launch() { # a session of its own, so that Ctrl-C at a test run does not reach it; --while ends it
  setsid java -cp "$cache/jars/*" -Dlog4j2.configurationFile="$here/log4j2.properties" ${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m} -XX:+UseG1GC \
    kafka.Kafka "$data/server-$1.properties" >>"$data/broker-$1.log" 2>&1 </dev/null &
  echo $! >"$data/broker-$1.pid"
}

again() { # ready is: its plain port takes a connection
  local address limit=$((SECONDS + 90))
  [ -f "$data/server-$node.properties" ] || die "there is no broker $node on $data"
  address=$(cut -d, -f"$node" <<<"$(head -1 "$data/listeners")")
  launch "$node"
  while is_free "${address#*:}"; do
    if ! kill -0 "$(<"$data/broker-$node.pid")" 2>/dev/null || [ $SECONDS -gt $limit ]; then
      tail -15 "$data/broker-$node.log" >&2
      die "broker $node did not start; its log is above"
    fi
    sleep 0.2
  done
}

await() { # ready is: an admin client gets an answer
  local limit=$((SECONDS + 180)) node
  for node in $(seq "$brokers"); do
    until grep -q "Kafka Server started" "$data/broker-$node.log"; do
      if [ "$(running | wc -l)" -lt "$brokers" ] || [ $SECONDS -gt $limit ]; then
        tail -15 "$data/broker-$node.log" >&2
        stop
        die "broker $node did not start; its log is above"
      fi
      sleep 0.2
    done
  done
  tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$1" --list >/dev/null 2>"$data/ready.log" \
    || die "the broker started but does not answer; see $data/ready.log"
}

watch() {
  exec >/dev/null 2>&1 </dev/null # nobody may wait for our end of a pipe
  while kill -0 "$parent"; do sleep 1; done
  remove=yes
  stop
}

stop() {
  local pid pids limit=$((SECONDS + 20))
  pids=$(running)
  for pid in $pids; do kill "$pid" 2>/dev/null || true; done
  for pid in $pids; do
    while kill -0 "$pid" 2>/dev/null; do
      if [ $SECONDS -gt $limit ]; then kill -9 "$pid" 2>/dev/null || true; fi
      sleep 0.1
    done
  done
  [ -z "$remove" ] || rm -rf "$data"
}

status() {
  local pids
  pids=$(running)
  [ -n "$pids" ] || { echo "no broker runs on $data"; exit 3; }
  echo "runs (process $(echo $pids)) at $(tr '\n' ' ' <"$data/listeners")"
}

case $command in
  start) start ;;
  again) again ;;
  stop) stop ;;
  status) status ;;
  jars) fetch checked ;;
  checksums) rm -f "$here/jars.sha256"; fetch unchecked; (cd "$cache/jars" && sha256sum -- *.jar) >"$here/jars.sha256" ;;
  help | --help | -h) usage ;;
  *) usage >&2; exit 2 ;;
esac
