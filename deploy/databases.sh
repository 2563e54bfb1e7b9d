#!/bin/sh
# A role and a database of the same name for MLflow and for Optuna; passwords from the secrets.
# PostgreSQL's image runs this once, on an empty volume; `psql` finds its server by PGHOST.
set -eu
secrets="${SECRETS:-/run/secrets}"

for name in mlflow optuna; do
  psql --username "${POSTGRES_USER:-postgres}" --dbname postgres --quiet \
    --set ON_ERROR_STOP=1 --set name="$name" --set password="$(cat "$secrets/$name")" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
