"""Retake the pictures of MLflow's UI in docs/images, of a study in an MLflow database.

    .venv/bin/python docs/images/retake.py demo --tracking-uri sqlite:///runs/mlflow.db

It needs Chromium or Chrome (`--browser` names another one), starts `mlflow ui` on a free port of
loopback, and stops it again.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from mlflow import MlflowClient

HERE = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> None:
    """Take every picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--tracking-uri", default="sqlite:///runs/mlflow.db")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--browser", default=next(filter(shutil.which, BROWSERS), None))
    options = parser.parse_args()
    if options.browser is None:
        sys.exit(f"one of {', '.join(BROWSERS)} must be installed, got none; or give --browser")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ui = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        [*ui, "--backend-store-uri", options.tracking_uri],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/health", server)
        for name, page in pages(options.study, options.tracking_uri).items():
            take(
                options.browser,
                f"{base}/#{page}{'&' if '?' in page else '?'}workflowType=machine_learning",
                options.out / f"mlflow-{name}.png",
            )
    finally:
        server.terminate()
        server.wait()


def pages(study: str, uri: str) -> dict[str, str]:
    """Return the address of each picture's page behind the #, by name."""
    client = MlflowClient(tracking_uri=uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`disparse.study` = '{study}'", max_results=200)
    if not runs:
        sys.exit(f"{uri} must hold the study {study!r}, but has no run of it")
    experiment = runs[0].info.experiment_id
    (parent,) = [r.info.run_id for r in runs if r.data.tags.get("disparse.kind") == "study"]
    front = [r.info.run_id for r in runs if r.data.tags.get("disparse.front") == "true"]
    filtered = urllib.parse.quote(
        f"tags.`disparse.front` = 'true' and tags.`disparse.study` = '{study}'"
    )
    bounded = urllib.parse.quote(
        "metrics.`cost/density` <= 0.1 and tags.`disparse.front` = 'true' "
        f"and tags.`disparse.study` = '{study}'"
    )
    order = urllib.parse.quote("metrics.`cost/density`")
    of_runs = f"/experiments/{experiment}/runs?orderByKey={order}&orderByAsc=true"
    chosen = urllib.parse.urlencode(
        {"runs": json.dumps(front), "experiments": json.dumps([experiment])}
    )
    return {
        "open": f"/experiments/{experiment}",
        "study": f"/experiments/{experiment}/runs/{parent}",
        "runs": f"{of_runs}&searchFilter={filtered}",
        "bound": f"{of_runs}&searchFilter={bounded}",
        "charts": f"{of_runs}&searchFilter={filtered}&compareRunsMode=CHART",
        "compare": f"/compare-runs?{chosen}",
    }


def wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the UI answers; end where it has ended or does not within three minutes."""
    for _ in range(360):
        if server.poll() is not None:
            sys.exit(f"`mlflow ui` ended with exit code {server.returncode}")
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    sys.exit("`mlflow ui` must answer within three minutes, but did not")


def take(browser: str, address: str, path: Path) -> None:
    """Write a page as a PNG of 1700 x 800 pixels."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--window-size=1700,800", "--virtual-time-budget=20000"),
                *(f"--user-data-dir={profile}", f"--screenshot={path}", address),
            ],
            check=True,
            timeout=180,
            capture_output=True,
        )
    print(path)


if __name__ == "__main__":
    main()
