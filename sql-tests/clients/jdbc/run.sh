#!/usr/bin/env bash
# Runs Check.java with the driver from Maven: run.sh HOST:PORT [user password]. Needs java and mvn.
set -euo pipefail
version=18.3.0
driver=$HOME/.m2/repository/org/apache/arrow/flight-sql-jdbc-driver/$version/flight-sql-jdbc-driver-$version.jar
[ -f "$driver" ] || mvn -B -q dependency:get -Dartifact=org.apache.arrow:flight-sql-jdbc-driver:$version
exec java --add-opens=java.base/java.nio=ALL-UNNAMED -cp "$driver" ${JAVA_OPTS:-} \
    "$(dirname "$0")/Check.java" "$@"
