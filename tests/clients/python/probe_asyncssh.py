"""AsyncSSH: pipelines its requests, and has an SFTP client with many requests under way."""

import asyncio

import asyncssh

from common import BULK, COMMAND, ECHO, FOLDER, KEY, NAME, PORT, USER, check, digest, told


def connect():
    return asyncssh.connect(
        "127.0.0.1", PORT, username=USER, client_keys=[KEY], known_hosts=None, config=None, agent_path=None
    )


async def command(connection):
    done = await connection.run(COMMAND)
    check("stdout", done.stdout, "out\n")
    check("stderr", done.stderr, "err\n")
    check("exit code", done.exit_status, 7)


async def stdin(connection):
    done = await connection.run("sha256sum", input=BULK, encoding=None)
    check("hash", done.stdout.split()[0], digest(BULK).encode())


async def terminal(connection):
    done = await connection.run("stty size", term_type="xterm", term_size=(91, 33))
    check("size", done.stdout.strip(), "33 91")


async def files(connection):
    async with connection.start_sftp_client() as sftp:
        here, back = FOLDER / "here", FOLDER / "back"
        here.write_bytes(BULK)
        await sftp.put(str(here), NAME)
        check("size", (await sftp.stat(NAME)).size, len(BULK))
        await sftp.get(NAME, str(back))
        check("content", digest(back.read_bytes()), digest(BULK))
        await sftp.posix_rename(NAME, NAME + "2")
        check("listing", NAME + "2" in await sftp.listdir("."), True)
        await sftp.remove(NAME + "2")


async def forward(connection):
    reader, writer = await connection.open_connection("127.0.0.1", ECHO, encoding=None)

    async def feed():
        writer.write(BULK)
        await writer.drain()
        writer.write_eof()

    _, text = await asyncio.gather(feed(), reader.read())
    check("content", digest(text), digest(BULK))


async def listener(connection):
    """A remote forward on a port that the server chooses."""

    async def answer(reader, writer):
        writer.write(await reader.read())
        writer.write_eof()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    remote = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", remote.get_port())
    writer.write(b"there and back")
    writer.write_eof()
    check("content", await reader.read(), b"there and back")
    remote.close()
    await remote.wait_closed()
    server.close()


async def many(_):
    async def one():
        async with connect() as connection:
            await command(connection)

    await asyncio.gather(*(one() for _ in range(10)))


async def main():
    async with connect() as shared:
        for feature in (command, stdin, terminal, files, forward, listener, many):
            try:
                await asyncio.wait_for(feature(shared), 60)
                told(feature.__name__)
            except Exception as error:  # noqa: BLE001: every failure is a row of the table
                told(feature.__name__, error)


print(f"version {asyncssh.__version__}", flush=True)
asyncio.run(main())
