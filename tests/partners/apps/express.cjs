// An Express app that takes JSON, and says what it believes of the client when it trusts the proxy on loopback.
// Start: PORT=0 node express.cjs
const express = require('express');

const app = express();
app.set('trust proxy', 'loopback');
app.use(express.json());

app.post('/orders', (request, response) => {
  response.status(201).json({ order: request.body, id: 7 });
});

app.get('/client', (request, response) => {
  response.json({ ip: request.ip, host: request.host, protocol: request.protocol });
});

const server = app.listen(Number(process.env.PORT), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
