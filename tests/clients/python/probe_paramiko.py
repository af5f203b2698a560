"""Paramiko: it never tries the method `none`, and reads a terminal through its own channel file."""

import threading

import paramiko

from common import BULK, COMMAND, ECHO, FOLDER, KEY, NAME, PORT, USER, check, digest, told


def connect():
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        "127.0.0.1", port=PORT, username=USER, key_filename=KEY, allow_agent=False, look_for_keys=False, timeout=30
    )
    return client


def command(client):
    _, out, err = client.exec_command(COMMAND, timeout=30)
    check("stdout", out.read(), b"out\n")
    check("stderr", err.read(), b"err\n")
    check("exit code", out.channel.recv_exit_status(), 7)


def stdin(client):
    into, out, _ = client.exec_command("sha256sum", timeout=60)
    into.channel.sendall(BULK)
    into.channel.shutdown_write()
    check("hash", out.read().split()[0], digest(BULK).encode())


def terminal(client):
    channel = client.get_transport().open_session()
    channel.settimeout(30)
    channel.get_pty("xterm", 91, 33)
    channel.exec_command("stty size")
    text = b""
    while chunk := channel.recv(1024):
        text += chunk
    check("size", text.strip(), b"33 91")


def files(client):
    with client.open_sftp() as sftp:
        here, back = FOLDER / "here", FOLDER / "back"
        here.write_bytes(BULK)
        sftp.put(str(here), NAME)
        check("size", sftp.stat(NAME).st_size, len(BULK))
        sftp.get(NAME, str(back))
        check("content", digest(back.read_bytes()), digest(BULK))
        sftp.posix_rename(NAME, NAME + "2")
        check("listing", NAME + "2" in sftp.listdir("."), True)
        sftp.remove(NAME + "2")


def forward(client):
    channel = client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", ECHO), ("127.0.0.1", 1))
    channel.settimeout(30)
    writer = threading.Thread(target=lambda: (channel.sendall(BULK), channel.shutdown_write()))
    writer.start()
    text = b""
    while chunk := channel.recv(65536):
        text += chunk
    writer.join()
    check("content", digest(text), digest(BULK))


def many(_):
    for _ in range(10):
        with connect() as client:
            command(client)


print(f"version {paramiko.__version__}", flush=True)
with connect() as shared:
    for feature in (command, stdin, terminal, files, forward, many):
        try:
            feature(shared)
            told(feature.__name__)
        except Exception as error:  # noqa: BLE001: every failure is a row of the table
            told(feature.__name__, error)
