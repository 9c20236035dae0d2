// A WebSocket client made with `ws`: puts an echo server through its paces and prints what it saw as JSON.
// Start: node echo.cjs ws://HOST:PORT/PATH
const { once } = require('node:events');
const WebSocket = require('ws');

const SIZE = 100_000;

async function answer(socket, message) {
  const next = once(socket, 'message');
  socket.send(message);
  const [data, isBinary] = await next;
  return isBinary ? data : data.toString();
}

async function main() {
  const socket = new WebSocket(process.argv[2], ['log', 'chart'], { perMessageDeflate: true });
  await once(socket, 'open');
  const text = '⚓ portolan '.repeat(SIZE / 10).slice(0, SIZE);
  const bytes = Buffer.from(Array.from({ length: SIZE }, (_, index) => (index * 31) % 256));

  const report = { subprotocol: socket.protocol, extension: socket.extensions };
  report.target = await answer(socket, 'target');
  report.textReturned = (await answer(socket, text)) === text;
  report.bytesReturned = bytes.equals(await answer(socket, bytes));

  const pong = once(socket, 'pong');
  socket.ping('deep six');
  report.pong = (await pong)[0].toString();

  const closed = once(socket, 'close');
  socket.send('close');
  const [code, reason] = await closed;
  report.close = `${code} ${reason}`;
  console.log(JSON.stringify(report));
}

const limit = setTimeout(() => {
  console.error('no end after 30 s');
  process.exit(1);
}, 30_000);
main().then(() => clearTimeout(limit));
