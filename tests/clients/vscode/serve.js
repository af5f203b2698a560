// A server that says which process it is and then sends back what it gets, until its far end has said all.
//
//   node serve.js (PORT | PATH)
const net = require('net');

const server = net.createServer({ allowHalfOpen: true }, (peer) => {
  peer.on('error', () => peer.destroy());
  peer.write(`pid ${process.pid}\n`);
  peer.pipe(peer);
});
server.listen(/^\d+$/.test(process.argv[2]) ? { host: '127.0.0.1', port: +process.argv[2] } : process.argv[2], () => {
  const at = server.address();
  console.log(`listening on ${at.port ?? at}/`);
});
