// A WebSocket server made with `ws`: echoes, tells the request target when asked for it, closes when asked to.
// Start: PORT=0 node echo.cjs
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.env.PORT),
  perMessageDeflate: true,
  handleProtocols: (offered) => offered.has('chart') && 'chart',
});

server.on('connection', (socket, request) => {
  // `ws` has closed the connection by then; an error that nobody hears would end the program too.
  socket.on('error', () => {});
  socket.on('message', (message, isBinary) => {
    const word = isBinary ? '' : message.toString();
    if (word === 'target') socket.send(request.url);
    else if (word === 'close') socket.close(4001, 'fair winds');
    else socket.send(message, { binary: isBinary });
  });
});

server.on('listening', () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
