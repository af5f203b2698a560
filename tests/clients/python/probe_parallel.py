"""parallel-ssh over libssh2 (argument `ssh2`) and over libssh (argument `ssh`)."""

import importlib.metadata
import sys

from common import BULK, COMMAND, FOLDER, KEY, NAME, PORT, USER, check, digest, told

if sys.argv[1] == "ssh2":
    from pssh.clients.native.single import SSHClient
else:
    from pssh.clients.ssh.single import SSHClient


def connect():
    return SSHClient("127.0.0.1", port=PORT, user=USER, pkey=KEY, num_retries=1, allow_agent=False, timeout=60)


def command(client):
    output = client.run_command(COMMAND)
    client.wait_finished(output)
    check("stdout", list(output.stdout), ["out"])
    check("stderr", list(output.stderr), ["err"])
    if sys.argv[1] == "ssh2":  # over libssh the exit code is not always there yet
        check("exit code", output.exit_code, 7)


def files(client):
    here, back = FOLDER / "here", FOLDER / "back"
    here.write_bytes(BULK)
    client.copy_file(str(here), NAME)
    client.copy_remote_file(NAME, str(back))
    check("content", digest(back.read_bytes()), digest(BULK))


def many(_):
    for _ in range(10):
        command(connect())


print(f"version {importlib.metadata.version('parallel-ssh')}", flush=True)
shared = connect()
for feature in (command, files, many):
    if feature is files and sys.argv[1] == "ssh":
        continue  # this binding of libssh has no files
    try:
        feature(shared)
        told(feature.__name__)
    except Exception as error:  # noqa: BLE001: every failure is a row of the table
        told(feature.__name__, error)
