// Asks the inspector of a Node program what it can debug, and evaluates something in it over its WebSocket.
//
// Start: node inspector.cjs PORT HOST     where to connect to, and what the program is called there; prints JSON
const http = require('node:http');
const WebSocket = require('ws');

const [port, Host] = process.argv.slice(2);
const headers = { Host };

http.get({ host: '127.0.0.1', port, path: '/json', headers }, async (response) => {
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  if (response.statusCode !== 200) {
    console.log(JSON.stringify({ status: response.statusCode, said: text }));
    return;
  }
  const [target] = JSON.parse(text);
  const { pathname } = new URL(target.webSocketDebuggerUrl);
  const socket = new WebSocket(`ws://127.0.0.1:${port}${pathname}`, { headers });
  socket.on('open', () =>
    socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'depth' } })),
  );
  socket.on('message', (message) => {
    const { value } = JSON.parse(message).result.result;
    console.log(JSON.stringify({ status: response.statusCode, type: target.type, depth: value }));
    socket.close();
  });
});
