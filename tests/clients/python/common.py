"""What every probe in Python shares: the environment, the features' names, and how their results are told."""

import hashlib
import os
import pathlib

PORT = int(os.environ["PROBE_PORT"])
USER = os.environ["PROBE_USER"]
KEY = os.environ["PROBE_KEY"]
ECHO = int(os.environ["PROBE_ECHO"])
FOLDER = pathlib.Path(os.environ["PROBE_FOLDER"])
NAME = os.environ["PROBE_NAME"]

COMMAND = "echo out; echo err >&2; exit 7"
BULK = hashlib.sha256(b"seed").digest() * 98304  # 3 MiB


def check(what, got, wanted):
    """Fails with what was seen, shortened, when it is not what was wanted."""
    if got != wanted:
        raise AssertionError(f"{what}: {str(got)[:200]!r}, not {str(wanted)[:80]!r}")


def told(feature, error=None):
    """One line for the table."""
    if error is None:
        print(f"ok {feature}", flush=True)
    else:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"fail {feature}: {text[:300]}", flush=True)


def digest(data):
    """SHA-256 in hexadecimal, as sha256sum prints it."""
    return hashlib.sha256(data).hexdigest()
