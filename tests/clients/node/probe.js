// ssh2: what VS Code's extensions and many build tools for Node are made of.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { Client } = require('ssh2');

const { PROBE_PORT, PROBE_USER, PROBE_KEY, PROBE_ECHO, PROBE_FOLDER, PROBE_NAME } = process.env;
const BULK = Buffer.alloc(3 << 20, crypto.createHash('sha256').update('seed').digest());
const digest = (data) => crypto.createHash('sha256').update(data).digest('hex');

function check(what, got, wanted) {
  if (got !== wanted) throw new Error(`${what}: ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
}

function connect() {
  return new Promise((resolve, reject) => {
    const client = new Client();
    client.on('ready', () => resolve(client)).on('error', reject);
    client.connect({
      host: '127.0.0.1',
      port: Number(PROBE_PORT),
      username: PROBE_USER,
      privateKey: fs.readFileSync(PROBE_KEY),
      readyTimeout: 30000,
    });
  });
}

// Calls a method whose last argument is a callback.
const ask = (object, method, ...args) =>
  new Promise((resolve, reject) =>
    object[method](...args, (error, value) => (error ? reject(error) : resolve(value))));

function collect(stream, input) {
  return new Promise((resolve, reject) => {
    const out = [];
    const err = [];
    let code = null;
    stream.on('data', (data) => out.push(data)).on('error', reject);
    stream.on('exit', (status) => { code = status; });
    stream.on('close', () => resolve({ code, out: Buffer.concat(out), err: Buffer.concat(err) }));
    if (stream.stderr) stream.stderr.on('data', (data) => err.push(data));
    stream.end(input);
  });
}

// Runs a command. One packet may hold the answer, the output and the exit code, so whoever first awaits the stream is late.
const run = (client, command, options, input) =>
  new Promise((resolve, reject) =>
    client.exec(command, options, (error, stream) =>
      (error ? reject(error) : collect(stream, input).then(resolve, reject))));

const late = () =>
  new Promise((_, reject) => setTimeout(() => reject(new Error('no end within a minute')), 60000).unref());

const features = {
  async command(client) {
    const done = await run(client, 'echo out; echo err >&2; exit 7', {});
    check('stdout', done.out.toString(), 'out\n');
    check('stderr', done.err.toString(), 'err\n');
    check('exit code', done.code, 7);
  },
  async stdin(client) {
    const done = await run(client, 'sha256sum', {}, BULK);
    check('hash', done.out.toString().split(' ')[0], digest(BULK));
  },
  async terminal(client) {
    const pty = { pty: { rows: 33, cols: 91, term: 'xterm' } };
    const done = await run(client, 'stty size', pty);
    check('size', done.out.toString().trim(), '33 91');
  },
  async files(client) {
    const sftp = await ask(client, 'sftp');
    const here = path.join(PROBE_FOLDER, 'here');
    const back = path.join(PROBE_FOLDER, 'back');
    fs.writeFileSync(here, BULK);
    await ask(sftp, 'fastPut', here, PROBE_NAME);
    await ask(sftp, 'fastGet', PROBE_NAME, back);
    check('content', digest(fs.readFileSync(back)), digest(BULK));
    await ask(sftp, 'rename', PROBE_NAME, `${PROBE_NAME}2`);
    const names = (await ask(sftp, 'readdir', '.')).map((entry) => entry.filename);
    check('listing', names.includes(`${PROBE_NAME}2`), true);
    await ask(sftp, 'unlink', `${PROBE_NAME}2`);
    sftp.end();
  },
  async forward(client) {
    const stream = await ask(client, 'forwardOut', '127.0.0.1', 1, '127.0.0.1', Number(PROBE_ECHO));
    const done = await collect(stream, BULK);
    check('content', digest(done.out), digest(BULK));
  },
  async listener(client) {
    const port = await ask(client, 'forwardIn', '127.0.0.1', 0);
    client.once('tcp connection', (_, accept) => { const there = accept(); there.pipe(there); });
    const done = await collect(require('net').connect(port, '127.0.0.1'), 'there and back');
    check('content', done.out.toString(), 'there and back');
    await ask(client, 'unforwardIn', '127.0.0.1', port);
  },
  async many() {
    for (let count = 0; count < 10; count += 1) {
      const client = await connect();
      await features.command(client);
      client.end();
    }
  },
};

console.log(`version ${require('ssh2/package.json').version}`);

(async () => {
  const client = await connect();
  for (const [name, feature] of Object.entries(features)) {
    try {
      await Promise.race([feature(client), late()]);
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`fail ${name}: ${String(error).split('\n').join(' ').slice(0, 300)}`);
    }
  }
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
