// A page under the certificate that it is given.
//
// Start: PORT=0 node tls.cjs CERTIFICATE KEY
const { readFileSync } = require('node:fs');
const https = require('node:https');

const [cert, key] = process.argv.slice(2).map((file) => readFileSync(file));
const server = https.createServer({ cert, key }, (request, response) => {
  response.end(JSON.stringify({ version: request.httpVersion, host: request.headers.host }));
});
server.listen(process.env.PORT, '127.0.0.1', () => {
  console.log(`listening on https://127.0.0.1:${server.address().port}`);
});
