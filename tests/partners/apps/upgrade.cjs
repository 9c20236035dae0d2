// A server whose protocol is none that anybody has heard of: each line comes back in capitals, and the end after the end.
// Start: PORT=0 node upgrade.cjs
const http = require('node:http');
const readline = require('node:readline');

const server = http.createServer((_request, response) => response.writeHead(426, { upgrade: 'shout' }).end());
server.on('upgrade', (request, socket, head) => {
  if (request.headers.upgrade !== 'shout') return socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n');
  socket.unshift(head);
  socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\nHELLO\n');
  const lines = readline.createInterface({ input: socket });
  lines.on('line', (line) => socket.write(`${line.toUpperCase()}\n`));
  lines.on('close', () => socket.end('GOODBYE\n'));
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
