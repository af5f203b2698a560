#!/usr/bin/env python3
"""Verifies a recording and prints it; written from docs/recording-format.md alone.

    reader.py FOLDER --host-ca FILE --user-ca FILE [--output]

Needs Python 3.9, `zstandard` (pip) and OpenSSH's ssh-keygen. Prints one line for each event, or with --output
the bytes of all Output events. Exit code: 0 complete, 10 bad, 11 abnormal, 12 no closing receipt.
"""
import argparse, base64, datetime, hashlib, json, os, pathlib, re, struct, subprocess, sys, tempfile, uuid

import zstandard

PEM = "-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----\n"

class Bad(Exception): pass

def need(holds, text):
    if not holds:
        raise Bad(text)

def cbor(data, at=0, depth=0):
    """One item of RFC 8949 and where it ends; only what the format uses."""
    need(depth < 16 and at < len(data), "malformed: CBOR is too deep or ends early")
    major, info, at = data[at] >> 5, data[at] & 31, at + 1
    need(info <= 27, "malformed: CBOR of indefinite length")
    size = 0 if info < 24 else 1 << (info - 24)
    value, at = int.from_bytes(data[at:at + size], "big") if size else info, at + size
    need(at + (value if major in (2, 3) else 0) <= len(data), "malformed: CBOR ends early")
    if major in (2, 3):
        piece, at = data[at:at + value], at + value
        return (piece if major == 2 else piece.decode("utf-8", "surrogateescape")), at
    if major in (4, 5):
        items = []
        for _ in range(value * (major - 3)):
            item, at = cbor(data, at, depth + 1)
            items.append(item)
        return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at
    if major == 7 and info in (20, 21, 22): return {20: False, 21: True, 22: None}[info], at
    need(major == 0, "malformed: CBOR of a type that the format has not")
    return value, at

class Room(bytearray):  # takes what one block of a frame gives, and no more than it may
    def write(self, piece):
        self.extend(piece)
        need(len(self) <= self.most, "malformed: a block gives more than its raw length")

def keygen(why, *args, stdin=b""):
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": {**os.environ, "TZ": "UTC", "LC_ALL": "C"}}
    done = subprocess.run(["ssh-keygen", *args], input=stdin, **out)
    need(done.returncode == 0, why)
    return done.stdout.decode("utf-8", "replace")

def signer(message, armoured, namespace, folder):
    path = pathlib.Path(folder, "sig")
    path.write_text(armoured)
    said = keygen(f"bad-signature: a {namespace} does not fit", "-Y", "check-novalidate", "-n", namespace, "-s", path, stdin=message)
    return re.search(r"SHA256:\S+", said)[0]

def certified(text, kind, principal, cas, when, folder):
    """The fingerprint of the key that this certificate vouches for at this time; ssh-keygen -L checks its signature."""
    path = pathlib.Path(folder, "cert.pub")
    path.write_text(text.strip() + "\n")
    said = keygen("untrusted-key: a certificate cannot be read, or its signature does not fit", "-L", "-f", path)
    need(f" {kind} certificate" in said, f"untrusted-key: not a {kind} certificate")
    need(re.search(r"Signing CA: \S+ (\S+)", said)[1] in cas, "untrusted-key: the certificate is not by a trusted authority")
    valid = re.search(r"Valid: from (\S+) to (\S+)", said)  # no such line: it never ends, which is refused
    begin, end = (datetime.datetime.fromisoformat(one + "+00:00").timestamp() for one in valid.groups())
    need(begin <= when / 1000 < end, "untrusted-key: the certificate was not valid then")
    need(principal is None or re.search(r"Principals:\s+" + principal + r"\s+Critical", said), "untrusted-key: principal")
    return re.search(r"Public key: \S+ (\S+)", said)[1]

def authorities(path):
    return set(re.findall(r"SHA256:\S+", keygen(f"{path} holds no public key", "-l", "-f", path)))

def receipts_of(folder, user_cas, scratch):
    path, found = os.path.join(folder, "receipts.jsonl"), []
    data = open(path, "rb").read() if os.path.exists(path) else b""
    need(not data or data.endswith(b"\n"), "truncated: the last receipt is not whole")
    for line in data.splitlines():
        outer = json.loads(line)
        said = json.loads(outer["statement"])
        plain = json.dumps({k: outer[k] for k in ("statement", "signature")}, separators=(",", ":"), ensure_ascii=False)
        need(plain.encode() == line and len(line) < 32768, "malformed: a receipt in another form")
        need(said["v"] == 1 and said["kind"] in ("head", "closing"), "malformed: a receipt")
        at = datetime.datetime.fromisoformat(said["at"].replace("Z", "+00:00")).timestamp() * 1000
        key = certified(said["gateway-certificate"], "user", "doorward-gateway", user_cas, at, scratch)
        need(signer(outer["statement"].encode(), outer["signature"], "doorward-receipt@doorward", scratch) == key, "bad-signature: a receipt")
        found.append(said)
    return found

def walk(folder, session, host_cas, user_cas, scratch, show):
    due = receipts_of(folder, user_cas, scratch)
    names = sorted(n for n in os.listdir(folder) if re.fullmatch(r"segment-\d{6,}\.dwr", n))
    session = session or (re.findall("^[0-9a-f-]{36}$", os.path.basename(os.path.abspath(folder))) or [None])[0]
    need(names == [f"segment-{i:06}.dwr" for i in range(len(names))], "missing-segment: a segment is not there")
    if not names:
        last = due[-1] if due else {}
        need(last.get("kind") == "closing" and last.get("offset") == 0, "missing-segment: there is no recording here")
        start = hashlib.sha256(b"doorward recording v1\0" + uuid.UUID(last["session"]).bytes).hexdigest()
        need(last["link"] == start and last["outcome"] == "abnormal", "altered: the closing receipt contradicts itself")
        return "abnormal"
    stream = link = author = coverage = closing = None
    offset = seq = channels = recorded = ended = 0
    for index, name in enumerate(names):
        data, at, open_segment = open(os.path.join(folder, name), "rb").read(), 0, False
        while at < len(data):
            need(len(data) - at >= 28 and not ended, "truncated or spliced: inside a header, or behind the end")
            kind, codec, reserved, number, raw_len, stored_len = struct.unpack(">BBHQII", data[at:at + 20])
            stored = data[at + 28:at + 28 + stored_len]
            need(kind in (1, 2, 3) and codec <= 3 and reserved == 0, "malformed: a header")
            need(raw_len and stored_len and (raw_len == stored_len if codec == 0 else stored_len < raw_len), "malformed: lengths")
            need(raw_len <= {1: 58, 2: 262144, 3: 8192}[kind] and (kind == 2 or codec == 0), "malformed: a block beyond its bounds")
            need(len(stored) == stored_len, "truncated: the stream ends inside a block")
            need((kind == 1) != open_segment and number == seq, "spliced: a block is out of place")
            if kind == 1:
                need(stored[:6] == b"DWREC\x01" and raw_len == 58, "malformed: a segment's start")
                if link is None:
                    stream = stored[6:22]
                    need(session in (None, str(uuid.UUID(bytes=stream))), "spliced: it is of another session")
                    link = hashlib.sha256(b"doorward recording v1\0" + stream).digest()
                need(stored[6:] == stream + struct.pack(">I", index) + link, "spliced: a segment of elsewhere")
                open_segment, room, frame = True, Room(), None
            before, link = link, hashlib.sha256(link + data[at:at + 20] + stored).digest()
            need(data[at + 20:at + 28] == link[:8], f"altered: segment {index}, block {seq}, offset {offset}")
            if kind == 2:
                alone = codec == 1 and zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw_len)
                raw, place = alone or stored, 0
                if codec == 2:
                    need(stored[:4] == b"\x28\xb5\x2f\xfd", "malformed: a block begins no frame")
                    frame = zstandard.ZstdDecompressor(max_window_size=1 << 17).stream_writer(room)
                if codec > 1:
                    need(frame, "malformed: a block continues a frame that has not begun")
                    room[:], room.most = b"", raw_len
                    frame.write(stored)
                    raw = bytes(room)
                need(len(raw) == raw_len, "malformed: a block of another length")
                while place < len(raw):
                    event, place = cbor(raw, place)
                    when, what, body = event[:3]
                    need((what == 1) == (author is None), "malformed: the recording does not begin with its opening")
                    if what == 1:
                        need(body[0] == stream, "spliced: the recording is of another session")
                        text = body[8][4:4 + body[8][3]].decode() + " " + base64.b64encode(body[8]).decode()
                        author = certified(text, "host", None, host_cas, body[1], scratch)
                    channels, coverage = channels + (what == 2), body if what == 18 else coverage
                    recorded += len(body[2]) if what == 9 else len(body[1]) if what == 10 else 0
                    show(when, what, body)
            if kind == 3:
                payload, _ = cbor(stored)
                text = lambda data: (bytes([88, len(data)]) if len(data) < 256 else b"\x59" + struct.pack(">H", len(data))) + data
                need(stored == b"\xa2\x00" + text(payload[0]) + b"\x01" + text(payload[1]), "altered: a head is not in its shortest form")
                said, _ = cbor(payload[0])
                need([said.get(k) for k in range(6)] == [1, stream, index, seq, offset, before], "spliced: a head says something else than what was counted")
                armour = PEM % "\n".join(re.findall(".{1,70}", base64.b64encode(payload[1]).decode()))
                need(signer(payload[0], armour, "doorward-head@doorward", scratch) == author, "bad-signature: a head is by another key")
                ended, open_segment = said[7], False
            at, offset, seq = at + 28 + stored_len, offset + 28 + stored_len, seq + 1
            receipted = kind != 3
            while due and due[0]["seq"] <= seq - 1:
                said = due.pop(0)
                nothing = said["kind"] == "closing" and said["offset"] == 0
                here = {"session": str(uuid.UUID(bytes=stream)), "seq": seq - 1, "segment": index, "offset": offset, "link": link.hex()}
                fits = here.items() <= said.items()
                need(fits or (nothing and seq == 1), f"altered: the receipt for block {said['seq']} attests something else")
                need(said["kind"] == "closing" or kind == 3, "altered: a receipt for a head that is none")
                receipted |= said["kind"] == "head"
                need(receipted or nothing, "rolled-back: a head has no receipt of its own")
                closing = (said, seq) if said["kind"] == "closing" else closing
            need(receipted or not due, "rolled-back: a head has no receipt, a later block has")
        need(not open_segment or index == len(names) - 1, "truncated: a segment ends without its head")
    need(not due, "truncated: a receipt attests more than is here")
    if closing is None: return "open"
    said, reach = closing
    need(reach == seq, "spliced: blocks after the last closing receipt")
    need(said["outcome"] == "abnormal" or (ended and coverage), "truncated or coverage: called complete, and is not")
    need(coverage is None or (coverage[0], coverage[2]) == (channels, recorded), "coverage: the author's counts contradict the events")
    return said["outcome"]

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    for name in ("--host-ca", "--user-ca"):
        parser.add_argument(name, required=True)
    parser.add_argument("--session", help="which session it must be; else the folder's name, if that is one")
    parser.add_argument("--output", action="store_true")
    args = parser.parse_args()
    def show(when, what, body):
        if not args.output: print(f"{when / 1e9:.6f} {what} {ascii(body)}")
        elif what == 9: sys.stdout.buffer.write(body[2])
    with tempfile.TemporaryDirectory() as scratch:
        try:
            verdict = walk(args.folder, args.session, authorities(args.host_ca), authorities(args.user_ca), scratch, show)
        except (Bad, LookupError, TypeError, AttributeError, ValueError, OverflowError, zstandard.ZstdError) as error:
            print(f"bad: {error if isinstance(error, Bad) else f'malformed: {error!r}'}", file=sys.stderr)
            return 10
    print(verdict, file=sys.stderr)
    return {"complete": 0, "abnormal": 11, "open": 12}[verdict]

sys.exit(main())
